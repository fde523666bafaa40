//! Syncs that fail, and disks without room.

use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, Fate};
use crate::each;
use crate::ledger::Ledger;
use crate::load::{Load, World, is_full, put_on};
use crate::machine::{Machine, NAME, Start, sound};
use crate::mount::Faults;
use crate::random::Random;

/// How long the usual run of a test takes, about.
const USUAL: Duration = Duration::from_secs(3);
/// How long a load takes at most.
const LOAD: Duration = Duration::from_secs(3);

/// Serves what is on a disk where nothing fails, and finds all of it there.
async fn whole(disk: Disk, ledger: &Arc<Ledger>) -> Result<Disk, String> {
    let mut machine = Machine::new(disk, Faults::None, Random::new(0, 0));
    let channel = machine.serve(NAME).await.unwrap();
    ledger.check(&channel).await?;
    World::new(ledger, &channel, 1000)
        .write_at_last()
        .await
        .map_err(|status| format!("it does not go on: {status}"))?;
    Ok(machine.crash())
}

/// The process ends, and says why. The next one has all that was acknowledged, also behind a power failure.
async fn failing_syncs(seed: u64) -> Result<u64, String> {
    let random = &mut Random::new(seed, 9);
    let ledger = Arc::<Ledger>::default();
    let (mut disk, mut failed) = (Disk::default(), 0);
    for life in 0..4 {
        let mut machine = Machine::new(disk, Faults::None, Random::new(random.within(0..u64::MAX), 0));
        // The first one has some for sure.
        let often = if life == 0 { 5 } else { [5, 30, 200][random.within(0..3) as usize] };
        let at_the_start = random.once_in(3);
        if at_the_start {
            machine.mount.set_faults(Faults::FailingSyncs(often));
        }
        let said = match machine.start(NAME).await {
            Start::Ended(said) => said,
            Start::Cut => unreachable!("nobody asked for a cut"),
            Start::Serves(channel) => {
                machine.mount.set_faults(Faults::FailingSyncs(often));
                ledger
                    .check(&channel)
                    .await
                    .or_else(|error| if machine.mount.failed() > 0 { Ok(()) } else { Err(error) })?;
                let world = World::new(&ledger, &channel, life);
                put_on(&world, Load { writes: 40, ..Load::any(random) }, random, || false, LOAD).await;
                match machine.shim().ended() {
                    Some(Some(1)) => machine.shim().said(),
                    Some(other) => return Err(format!("it ends with {other:?}: {}", machine.shim().said())),
                    None => String::new(),
                }
            }
        };
        let clear = ["the disk did not keep what was written", "see the system's log for errors of the disk"];
        if !said.is_empty() && !clear.iter().any(|clear| said.contains(clear)) {
            return Err(format!("it does not say why it ends: {said}"));
        }
        failed += machine.mount.failed();
        // The process is started again by itself, or with the machine.
        disk = machine.crash();
        if random.once_in(2) {
            disk = whole(disk, &ledger).await?;
        }
        disk = whole(disk.cut(Fate::any(random), random), &ledger).await?;
    }
    sound(&disk.cut(Fate::Dropped, random), NAME).map(|()| failed)
}

/// Writes are refused, and go on when there is room, without a restart.
async fn full(seed: u64) -> Result<u64, String> {
    let random = &mut Random::new(seed, 10);
    let ledger = Arc::<Ledger>::default();
    let (mut disk, mut failed) = (Disk::default(), 0);
    for life in 0..3 {
        let faults = if life > 0 && random.once_in(3) { Faults::Full(4) } else { Faults::None };
        let mut machine = Machine::new(disk, faults, Random::new(random.within(0..u64::MAX), 0));
        match machine.start(NAME).await {
            Start::Cut => unreachable!("nobody asked for a cut"),
            Start::Ended(said) if faults != Faults::None && said.contains("free some space") => {}
            Start::Ended(said) => return Err(format!("it does not say why it ends: {said}")),
            Start::Serves(channel) => {
                let world = World::new(&ledger, &channel, life);
                for often in [2, 20, 1 << 30] {
                    machine.mount.set_faults(Faults::Full(often));
                    let load = Load { writes: 20, ..Load::any(random) };
                    let errors = put_on(&world, load, random, || false, LOAD).await;
                    if let Some(error) = errors.iter().find(|error| !is_full(error)) {
                        return Err(format!("a full disk is {error}: {}", machine.shim().said()));
                    }
                    machine.mount.set_faults(Faults::None);
                    let goes_on = tokio::time::timeout(crate::shim::PATIENCE, world.write_at_last()).await;
                    goes_on.map_err(|_| "it does not heal")?.map_err(|status| format!("it does not heal: {status}"))?;
                    ledger.check(&channel).await?;
                }
            }
        }
        failed += machine.mount.failed();
        disk = whole(machine.cut(Fate::any(random), random), &ledger).await?;
    }
    sound(&disk, NAME).map(|()| failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_ends_the_process_and_loses_nothing() {
    let failed = each("SLUICE_POWER_FAULTS", USUAL, failing_syncs).await;
    assert!(failed.is_none_or(|failed| failed > 0), "no sync failed");
    println!("{failed:?} failed syncs, no acknowledged write lost");
}

/// SQLite does not look at what came of such a sync.
#[tokio::test(flavor = "multi_thread")]
async fn files_whose_names_can_not_be_synced_hold_nothing_that_was_acknowledged() {
    if crate::is_skipped() {
        return;
    }
    let (ledger, random) = (Arc::<Ledger>::default(), &mut Random::new(0, 0));
    let mut machine = Machine::new(Disk::default(), Faults::FailingNames, Random::new(0, 0));
    if let Start::Serves(channel) = machine.start(NAME).await {
        let written = World::new(&ledger, &channel, 0).write_at_last().await;
        assert!(written.is_err(), "the names of its files are not on the disk");
        assert_eq!(machine.shim().wait(|| false).await, Some(Some(1)));
    }
    let said = machine.shim().said();
    assert!(said.contains("the disk did not keep what was written"), "{said}");
    whole(machine.cut(Fate::Dropped, random), &ledger).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_now_and_then_refuses_writes_and_loses_nothing() {
    let failed = each("SLUICE_POWER_FAULTS", USUAL, full).await;
    assert!(failed.is_none_or(|failed| failed > 0), "the disk was never full");
    println!("{failed:?} calls without room, no acknowledged write lost");
}
