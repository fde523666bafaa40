//! Cuts while a store is restored, or moves to another database.

use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, Fate};
use crate::each;
use crate::ledger::Ledger;
use crate::load::{Load, World, put_on};
use crate::machine::{Machine, NAME, Start, sound};
use crate::mount::Faults;
use crate::random::Random;

/// Where the store goes.
const TARGET: &str = "target.db";
/// How often the power of one machine fails at most.
const CUTS: u64 = 8;
/// How long the usual run of a test takes, about.
const USUAL: Duration = Duration::from_secs(3);
/// How long a load takes at most.
const LOAD: Duration = Duration::from_secs(5);

/// A store with something in it: what its clients were told, and the disk.
async fn filled(random: &mut Random) -> (Arc<Ledger>, Disk) {
    let ledger = Arc::<Ledger>::default();
    let mut machine = Machine::new(Disk::default(), Faults::None, Random::new(0, 0));
    let channel = machine.serve(NAME).await.unwrap();
    let world = World::new(&ledger, &channel, 0);
    let load = Load::any(random);
    let load = Load { longest: load.longest.min(16 << 10), writes: load.writes.min(30), ..load };
    put_on(&world, load, random, || false, LOAD).await;
    (ledger, machine.cut(Fate::Kept, random))
}

/// Nothing was promised before the command has succeeded; a database of half a snapshot is never served.
async fn restored(seed: u64) -> Result<u64, String> {
    let random = &mut Random::new(seed, 7);
    let (ledger, disk) = filled(random).await;
    let mut machine = Machine::new(disk, Faults::None, Random::new(0, 0));
    let channel = machine.serve(NAME).await.unwrap();
    ledger.check(&channel).await?;
    drop(channel);
    let disk = machine.stop().await;
    let plain = tempfile::tempdir().unwrap();
    disk.write_to(plain.path());
    let snapshot = plain.path().join("snapshot").display().to_string();
    let from = crate::shim::endpoint(plain.path(), NAME);
    let exported = crate::shim::command(&["export", "--endpoint", &from, "--to", &snapshot]).output().unwrap();
    assert!(exported.status.success(), "{exported:?}");

    for cut in 1..=CUTS {
        let mut machine = Machine::new(Disk::default(), Faults::None, Random::new(0, 0));
        // The last one is cut when it is done.
        if cut < CUTS {
            machine.mount.cut_after(random.within(0..200));
        }
        let endpoint = machine.endpoint(TARGET);
        machine.run(&["restore", "--from", &snapshot, "--endpoint", &endpoint]);
        let done = machine.done().await;
        if let Some((false, said)) = &done {
            return Err(format!("restore: {said}"));
        }
        let disk = machine.cut(Fate::any(random), random);
        let mut machine = Machine::new(disk, Faults::None, Random::new(0, 0));
        match machine.start(TARGET).await {
            Start::Serves(channel) => match ledger.check(&channel).await {
                Err(error) if done.is_some() || !crate::ledger::is_empty(&channel).await? => {
                    return Err(format!("cut {cut}, the restore is done: {}: {error}", done.is_some()));
                }
                _ => {}
            },
            Start::Ended(said) if done.is_none() && said.contains("not loaded to its end") => {}
            Start::Ended(said) => return Err(format!("cut {cut}, the restore is done: {}: {said}", done.is_some())),
            Start::Cut => unreachable!("nobody asked for a cut"),
        }
    }
    Ok(CUTS)
}

/// The source is served until the store has left it, and after that the target, with all that was acknowledged.
async fn moved(seed: u64) -> Result<u64, String> {
    let random = &mut Random::new(seed, 8);
    let (ledger, mut disk) = filled(random).await;
    let mut cuts = 0;
    loop {
        let mut machine = Machine::new(disk, Faults::None, Random::new(0, 0));
        if cuts < CUTS {
            let most = [40, 400, 4000][random.within(0..3) as usize];
            machine.mount.cut_after(random.within(0..most));
        }
        let has_moved = turn(&mut machine, &ledger, cuts, random).await?;
        let is_cut = machine.mount.is_cut();
        disk = machine.cut(Fate::any(random), random);
        cuts += 1;
        if has_moved && !is_cut {
            break;
        }
        assert!(cuts < 2 * CUTS, "it does not come to an end");
    }
    sound(&disk, TARGET)?;
    let mut machine = Machine::new(disk, Faults::None, Random::new(0, 0));
    let channel = machine.serve(TARGET).await.unwrap();
    ledger.check(&channel).await?;
    Ok(cuts)
}

/// Serves the source while it moves, or goes on with a move that was cut off. Whether the store is in the target.
async fn turn(machine: &mut Machine, ledger: &Arc<Ledger>, life: u64, random: &mut Random) -> Result<bool, String> {
    let (from, to) = (machine.endpoint(NAME), machine.endpoint(TARGET));
    let command = ["migrate-to", "--endpoint", &from, &to];
    match machine.start(NAME).await {
        Start::Cut => return Ok(false),
        Start::Ended(said) if said.contains("the store has moved to") => {}
        Start::Ended(said) => return Err(format!("the source is not served: {said}")),
        Start::Serves(channel) => {
            let checked = ledger.check(&channel).await;
            if machine.mount.is_cut() {
                return Ok(false);
            }
            checked.map_err(|error| format!("in the source: {error}"))?;
            machine.run(&command);
            let world = World::new(ledger, &channel, life + 1);
            let mount = &machine.mount;
            put_on(&world, Load { writes: 20, longest: 4 << 10, ..Load::any(random) }, random, || mount.is_cut(), LOAD)
                .await;
            return match machine.done().await {
                None => Ok(false),
                Some((true, _)) => target(machine, ledger).await,
                Some((false, said)) => Err(format!("migrate-to: {said}")),
            };
        }
    }
    machine.run(&command);
    match machine.done().await {
        None => Ok(false),
        Some((succeeded, said)) if succeeded || said.contains("the store has moved to") => {
            target(machine, ledger).await
        }
        Some((_, said)) => Err(format!("migrate-to once more: {said}")),
    }
}

/// Whether the target is served, until the power fails.
async fn target(machine: &mut Machine, ledger: &Arc<Ledger>) -> Result<bool, String> {
    let Some(channel) = machine.serve(TARGET).await else { return Ok(false) };
    let checked = ledger.check(&channel).await;
    if machine.mount.is_cut() {
        return Ok(false);
    }
    checked.map(|()| true).map_err(|error| format!("in the target: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_half_restored_is_never_served() {
    let cuts = each("SLUICE_POWER_MOVES", USUAL, restored).await;
    println!("{cuts:?} cuts of a restore");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_moves_is_whole_in_one_place() {
    let cuts = each("SLUICE_POWER_MOVES", USUAL, moved).await;
    println!("{cuts:?} cuts of a move, no acknowledged write lost");
}
