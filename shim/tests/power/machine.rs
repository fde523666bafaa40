//! A machine with a disk and the program, whose power may fail.

use std::process::Child;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonic::transport::Channel;

use crate::disk::{Disk, Fate};
use crate::mount::{Faults, Mount};
use crate::random::Random;
use crate::shim::{PATIENCE, Shim, command, endpoint, fsck, outcome};

/// The database's name.
pub(crate) const NAME: &str = "state.db";

/// What came of a start.
pub(crate) enum Start {
    Serves(Channel),
    /// It ended by itself, with what it said.
    Ended(String),
    /// The power failed.
    Cut,
}

pub(crate) struct Machine {
    // Dropped in this order, after what `drop` does.
    shim: Option<Shim>,
    tool: Option<Child>,
    pub(crate) mount: Mount,
    folder: TempDir,
}

impl Machine {
    /// Turns it on, with what is on the disk.
    pub(crate) fn new(disk: Disk, faults: Faults, random: Random) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Mount::new(disk, faults, random, folder.path());
        Self { shim: None, tool: None, mount, folder }
    }

    /// A database on its disk, as an endpoint.
    pub(crate) fn endpoint(&self, name: &str) -> String {
        endpoint(self.folder.path(), name)
    }

    /// Starts the program on a database, in the place of one that may be there.
    pub(crate) async fn start(&mut self, name: &str) -> Start {
        let mount = &self.mount;
        if let Some(before) = &mut self.shim {
            before.kill();
            // When the power has failed, what it wrote gets no answer.
            if before.wait(|| mount.is_cut()).await.is_none() {
                return Start::Cut;
            }
        }
        let shim = self.shim.insert(Shim::start(&endpoint(self.folder.path(), name)));
        match shim.serves(|| mount.is_cut()).await {
            Some(channel) => Start::Serves(channel),
            None if mount.is_cut() => Start::Cut,
            None => Start::Ended(format!("{:?}: {}", shim.ended(), shim.said())),
        }
    }

    /// The same where it has to serve, unless the power fails.
    pub(crate) async fn serve(&mut self, name: &str) -> Option<Channel> {
        match self.start(name).await {
            Start::Serves(channel) => Some(channel),
            Start::Ended(said) => panic!("it does not serve: {said}"),
            Start::Cut => None,
        }
    }

    pub(crate) fn shim(&mut self) -> &mut Shim {
        self.shim.as_mut().unwrap()
    }

    /// Begins a command beside the server.
    pub(crate) fn run(&mut self, args: &[&str]) {
        self.tool = Some(command(args).spawn().unwrap());
    }

    /// Waits for the end of the command: whether it succeeded, and what it said. `None` if the power fails before.
    pub(crate) async fn done(&mut self) -> Option<(bool, String)> {
        let (mut tool, start) = (self.tool.take().unwrap(), Instant::now());
        while tool.try_wait().unwrap().is_none() {
            if self.mount.is_cut() {
                self.tool = Some(tool);
                return None;
            }
            assert!(start.elapsed() < PATIENCE, "the command does not end");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Some(outcome(&tool.wait_with_output().unwrap()))
    }

    /// Kills the program, and nothing happens to the power.
    pub(crate) fn crash(mut self) -> Disk {
        self.kill();
        self.mount.take()
    }

    /// Has the power fail, if it has not, and ends the program. Returns what is on the disk.
    pub(crate) fn cut(mut self, fate: Fate, random: &mut Random) -> Disk {
        self.mount.cut();
        self.kill();
        self.mount.take().cut(fate, random)
    }

    /// Asks the program to stop, and waits until it has, or the power fails.
    pub(crate) async fn stop_or_cut(&mut self) {
        let (shim, mount) = (self.shim.as_mut().unwrap(), &self.mount);
        shim.terminate();
        let ended = shim.wait(|| mount.is_cut()).await;
        assert!(ended.is_none_or(|code| code == Some(0)), "{ended:?}: {}", shim.said());
    }

    /// Stops the program as one should.
    pub(crate) async fn stop(mut self) -> Disk {
        let shim = self.shim.take().unwrap();
        let said = shim.said();
        assert_eq!(shim.stop().await, Some(0), "{said}");
        self.mount.take()
    }

    /// The program is killed before anybody tells it of an error.
    fn kill(&mut self) {
        if let Some(shim) = &mut self.shim {
            shim.kill();
        }
        if let Some(tool) = &mut self.tool {
            let _ = tool.kill();
        }
        self.mount.release();
        self.shim = None;
        if let Some(mut tool) = self.tool.take() {
            let _ = tool.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a database on a disk is sound; if not, why.
pub(crate) fn sound(disk: &Disk, name: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    disk.write_to(folder.path());
    match fsck(&endpoint(folder.path(), name)) {
        (true, _) => Ok(()),
        (false, said) => Err(format!("fsck: {said}; {}", disk.lengths())),
    }
}
