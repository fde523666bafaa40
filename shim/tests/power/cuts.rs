//! Cuts at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::disk::{Disk, Fate};
use crate::each;
use crate::ledger::Ledger;
use crate::load::{Load, World, put_on};
use crate::machine::{Machine, NAME, Start, sound};
use crate::mount::Faults;
use crate::random::Random;

/// How long the usual run takes, about.
const USUAL: Duration = Duration::from_secs(10);
/// How long the usual run of first starts takes, and how many changes and syncs a first start makes, about.
const STARTS: Duration = Duration::from_secs(4);
const CALLS: u64 = 120;
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
        if let Some(channel) = machine.serve(NAME).await {
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
            sound(&disk, NAME).map_err(|error| format!("after {fate:?}: {error}"))?;
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
        let channel = machine.serve(NAME).await.unwrap();
        self.ledger.check(&channel).await.map_err(|error| format!("after the last cut: {error}"))?;
        drop(channel);
        sound(&machine.stop().await, NAME).map_err(|error| format!("after a clean stop: {error}"))?;
        Ok(Made { cuts, acknowledged: self.ledger.acknowledged() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_power_failure() {
    let acknowledged = AtomicU64::new(0);
    let acknowledged = &acknowledged;
    let life = async |seed| {
        let made = Life::new(seed, Faults::None).run(CUTS).await?;
        acknowledged.fetch_add(made.acknowledged, Ordering::SeqCst);
        Ok(made.cuts)
    };
    let cuts = each("SLUICE_POWER_MACHINES", USUAL, life).await;
    println!("{cuts:?} cuts, {acknowledged:?} acknowledged writes, none lost");
}

/// While the database is made, whatever is left: the next start makes it, or goes on with it.
async fn half_made(seed: u64) -> Result<u64, String> {
    let random = &mut Random::new(seed, 5);
    let mut machine = Machine::new(Disk::default(), Faults::None, Random::new(0, 0));
    let (calls, fate) = (random.within(0..CALLS), Fate::any(random));
    machine.mount.cut_after(calls);
    let served = machine.serve(NAME).await.is_some();
    let disk = machine.cut(fate, random);
    let when = format!("after {calls} calls, {fate:?}, served {served}, {}", disk.lengths());
    let mut machine = Machine::new(disk, Faults::None, Random::new(0, 0));
    let wrong = match machine.start(NAME).await {
        Start::Serves(channel) => Ledger::default().check(&channel).await.err(),
        Start::Ended(said) => Some(said),
        Start::Cut => unreachable!("nobody asked for a cut"),
    };
    match wrong.map_or(Ok(()), Err).and(sound(&machine.stop().await, NAME)) {
        Ok(()) => Ok(1),
        Err(error) => Err(format!("{when}: {error}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_half_made_is_made_anew() {
    let cuts = each("SLUICE_POWER_STARTS", STARTS, half_made).await;
    println!("{cuts:?} cuts of a first start");
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
