//! Makes inputs and runs a target on them.

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::mutate::mutate;
use super::random::Random;

/// How many targets share the time.
const TARGETS: u32 = 6;
/// How many inputs are kept because they were answered in a new way.
const KEPT: usize = 4096;
/// How long all targets together are run in a plain `cargo test`, in seconds.
const SECONDS: u32 = 6;

/// What is fuzzed.
pub(crate) struct Target<'a> {
    /// Names the folder in `corpus/`.
    pub(crate) name: &'a str,
    /// Good inputs.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// Pieces of which good inputs are made.
    pub(crate) words: &'a [&'a [u8]],
    /// Runs an input, and says what kind of answer it gave.
    pub(crate) run: &'a dyn Fn(&[u8]) -> u64,
}

/// Held by the test that runs.
pub(crate) struct Alone {
    _guard: MutexGuard<'static, ()>,
}

/// Waits until no other test runs. Each begins with this, since what it costs is measured for the whole process.
pub(crate) fn alone() -> Alone {
    static RUNNING: Mutex<()> = Mutex::new(());
    Alone { _guard: RUNNING.lock().unwrap_or_else(PoisonError::into_inner) }
}

/// A kind of answer.
pub(crate) fn kind(answer: impl std::fmt::Debug) -> u64 {
    let mut hash = DefaultHasher::new();
    format!("{answer:?}").hash(&mut hash);
    hash.finish()
}

/// The words of an error: without numbers and what is quoted, which do not make it another kind.
pub(crate) fn words(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let plain = text.split(['"', '\'', '`']).step_by(2);
    plain.flat_map(|piece| piece.split(|character: char| character.is_ascii_digit())).collect()
}

impl Target<'_> {
    /// Runs what failed once, the good inputs, and then new ones for as long as there is time.
    ///
    /// # Panics
    /// When the target does. The input is in a file then, which the message names; after a crash of the process it is
    /// there as well.
    pub(crate) fn fuzz(self, _alone: &Alone) {
        let mut current = Current::new(self.name);
        for (file, input) in corpus(self.name) {
            println!("{}", file.display());
            current.run(&self, &input);
        }
        let mut kinds: HashSet<u64> = self.seeds.iter().map(|seed| current.run(&self, seed)).collect();
        let mut pool = self.seeds.clone();
        let seed = number("SLUICE_FUZZ_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        let mut random = Random::new(seed, 0);
        let share = Duration::from_secs(number("SLUICE_FUZZ_SECONDS").unwrap_or(u64::from(SECONDS))) / TARGETS;
        let (begin, mut runs) = (Instant::now(), 0_u64);
        while begin.elapsed() < share {
            let mut input = choose(&mut random, &pool).clone();
            for _ in 0..1 + random.within(0..6) {
                let other = random.within(0..pool.len() as u64) as usize;
                mutate(&mut random, &mut input, &pool[other], self.words);
            }
            let kind = current.run(&self, &input);
            runs += 1;
            if pool.len() < KEPT && kinds.insert(kind) {
                pool.push(input);
            }
        }
        println!("{}: {runs} inputs with seed {seed}, {} kinds of answers", self.name, kinds.len());
    }
}

/// Good inputs and the newest finds more often than others.
fn choose<'a>(random: &mut Random, pool: &'a [Vec<u8>]) -> &'a Vec<u8> {
    let len = pool.len() as u64;
    let from = if random.once_in(3) { len - len.div_ceil(8) } else { 0 };
    &pool[random.within(from..len) as usize]
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The inputs that failed once, and others worth keeping.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    let mut files: Vec<PathBuf> = files.unwrap_or_default();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

/// The file with the input that runs now.
struct Current {
    path: PathBuf,
    file: fs::File,
}

impl Current {
    fn new(target: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{target}-{}.input", std::process::id()));
        Self { file: fs::File::create(&path).unwrap(), path }
    }

    fn run(&mut self, target: &Target<'_>, input: &[u8]) -> u64 {
        self.file.set_len(0).unwrap();
        self.file.seek(SeekFrom::Start(0)).unwrap();
        self.file.write_all(input).unwrap();
        catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|panic| {
            eprintln!("the input is in {}; keep it in shim/tests/fuzz/corpus/{}/", self.path.display(), target.name);
            self.path = PathBuf::new();
            resume_unwind(panic)
        })
    }
}

impl Drop for Current {
    /// A file that shows a failure stays.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
