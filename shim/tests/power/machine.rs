//! A machine with a disk and the program, whose power may fail.

use std::path::Path;

use tempfile::TempDir;
use tonic::transport::Channel;

use crate::disk::{Disk, Fate};
use crate::mount::{Faults, Mount};
use crate::random::Random;
use crate::shim::{Shim, endpoint, fsck};

/// The database's name.
pub(crate) const NAME: &str = "state.db";

pub(crate) struct Machine {
    // Dropped in this order, after what `drop` does.
    shim: Option<Shim>,
    pub(crate) mount: Mount,
    folder: TempDir,
}

impl Machine {
    /// Turns it on, with what is on the disk.
    pub(crate) fn new(disk: Disk, faults: Faults, random: Random) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Mount::new(disk, faults, random, folder.path());
        Self { shim: None, mount, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn endpoint(&self) -> String {
        endpoint(self.folder(), NAME)
    }

    /// Starts the program. `None` if the power fails meanwhile.
    pub(crate) async fn serve(&mut self) -> Option<Channel> {
        let mut shim = Shim::start(&self.endpoint());
        let mount = &self.mount;
        let channel = shim.serves(|| mount.is_cut()).await;
        let (ended, said) = (shim.ended(), shim.said());
        self.shim = Some(shim);
        assert!(channel.is_some() || self.mount.is_cut(), "it does not serve ({ended:?}): {said}");
        channel
    }

    pub(crate) fn shim(&mut self) -> &mut Shim {
        self.shim.as_mut().unwrap()
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
        self.mount.release();
        self.shim = None;
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a disk holds a sound database; what else is said about it.
pub(crate) fn sound(disk: &Disk) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    disk.write_to(folder.path());
    fsck(&endpoint(folder.path(), NAME))
}
