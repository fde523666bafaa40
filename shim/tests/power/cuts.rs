//! Cuts at any moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::{Disk, Fate};
use crate::ledger::Ledger;
use crate::load::{Load, World, put_on};
use crate::machine::{Machine, sound};
use crate::mount::Faults;
use crate::number;
use crate::random::Random;

/// How long the usual run takes, about.
const USUAL: Duration = Duration::from_secs(15);
/// How often the power of one machine fails.
const CUTS: u64 = 6;
/// How long a load takes at most.
const LOAD: Duration = Duration::from_secs(5);
/// How long the shim may be idle before the power fails.
const IDLE: Duration = Duration::from_millis(400);

/// What came of the cuts of one machine.
#[derive(Debug, Default, Clone, Copy)]
struct Made {
    cuts: u64,
    acknowledged: u64,
}

/// One machine, whose power fails again and again.
struct Life {
    ledger: Arc<Ledger>,
    random: Random,
    faults: Faults,
    served: u64,
}

impl Life {
    fn new(seed: u64, faults: Faults) -> Self {
        Self { ledger: Arc::default(), random: Random::new(seed, 0), faults, served: 0 }
    }

    fn stream(&mut self) -> Random {
        Random::new(self.random.within(0..u64::MAX), 1)
    }

    fn is_lying(&self) -> bool {
        self.faults == Faults::Lies
    }

    /// Turns the machine on, uses it, and has its power fail.
    async fn cut(&mut self, disk: Disk) -> Result<Disk, String> {
        let stream = self.stream();
        let mut machine = Machine::new(disk, self.faults, stream);
        // At the start as well: while tables are made, or a log is read.
        if self.random.once_in(4) {
            machine.mount.cut_after(self.random.within(0..60));
        }
        if let Some(channel) = machine.serve().await {
            let checked = self.ledger.check(&channel).await;
            if !machine.mount.is_cut() {
                checked?;
                self.served += 1;
                self.use_up(&mut machine, &channel).await;
            }
        }
        let fate = if self.is_lying() { Fate::Dropped } else { Fate::any(&mut self.random) };
        let disk = machine.cut(fate, &mut self.random);
        // Before it has served once there may be no database yet.
        if self.served > 0 && !self.is_lying() {
            let (is_sound, said) = sound(&disk);
            if !is_sound {
                return Err(format!("after {fate:?}, with {}: {said}", disk.lengths()));
            }
        }
        Ok(disk)
    }

    /// Works on a machine until the power fails: under load, when nothing is to do, or in a clean stop.
    async fn use_up(&mut self, machine: &mut Machine, channel: &tonic::transport::Channel) {
        let random = &mut self.random;
        let most = [30, 300, 1500, 6000][random.within(0..4) as usize];
        machine.mount.cut_after(random.within(0..most));
        let load = Load::any(random);
        let world = World::new(&self.ledger, channel, self.served);
        let mount = &machine.mount;
        put_on(&world, load, random, || mount.is_cut(), LOAD).await;
        let start = Instant::now();
        match random.within(0..3) {
            0 => {}
            1 => {
                while !mount.is_cut() && start.elapsed() < IDLE {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            _ => {
                drop(world);
                machine.stop_or_cut().await;
            }
        }
    }

    /// All cuts of the machine, and a last look.
    async fn run(&mut self, cuts: u64) -> Result<Made, String> {
        let mut disk = Disk::default();
        for cut in 1..=cuts {
            disk = self.cut(disk).await.map_err(|error| format!("cut {cut}: {error}"))?;
        }
        let mut machine = Machine::new(disk, self.faults, self.stream());
        let channel = machine.serve().await.unwrap();
        self.ledger.check(&channel).await.map_err(|error| format!("after the last cut: {error}"))?;
        drop(channel);
        let (is_sound, said) = sound(&machine.stop().await);
        let made = Made { cuts, acknowledged: self.ledger.acknowledged() };
        if is_sound { Ok(made) } else { Err(format!("after a clean stop: {said}")) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_power_failure() {
    if crate::is_skipped() {
        return;
    }
    let (seed, start) = (number("SLUICE_POWER_SEED").unwrap_or_else(|| std::process::id().into()), Instant::now());
    let wanted = number("SLUICE_POWER_CUTS");
    let mut all = Made::default();
    for life in seed.. {
        let left = wanted.map_or(CUTS, |wanted| wanted.saturating_sub(all.cuts).min(CUTS));
        if left == 0 || (wanted.is_none() && start.elapsed() > USUAL) {
            break;
        }
        let made = Life::new(life, Faults::None).run(left).await;
        let made = made.unwrap_or_else(|error| panic!("SLUICE_POWER_SEED={life} SLUICE_POWER_CUTS={left}: {error}"));
        all = Made { cuts: all.cuts + made.cuts, acknowledged: all.acknowledged + made.acknowledged };
    }
    println!("SLUICE_POWER_SEED={seed}: {} cuts, {} acknowledged writes, none lost", all.cuts, all.acknowledged);
}

/// The test notices a loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_about_syncs_is_found_out() {
    if crate::is_skipped() {
        return;
    }
    let mut found = None;
    for seed in 0..20 {
        // What the shim refuses to start with is a loss too.
        let life = tokio::spawn(async move { Life::new(seed, Faults::Lies).run(CUTS).await });
        found = match life.await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error),
            Err(panic) => Some(panic.to_string()),
        };
        if found.is_some() {
            break;
        }
    }
    assert!(found.as_ref().is_some_and(|found| found.contains("was acknowledged")), "{found:?}");
}
