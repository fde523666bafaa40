//! What an input may cost.

use std::alloc::System;
use std::time::Duration;

use cap::Cap;
use nix::time::{ClockId, clock_gettime};

/// Counts what is allocated. More than the limit at once and the process ends, before the machine does.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 4 << 30);

/// A cost that every input may have, and one for each byte of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes allocated.
    pub(crate) memory: usize,
    /// Bytes allocated for each byte of the input.
    pub(crate) memory_a_byte: usize,
}

/// The time of a thread's own work. Generous: it is there to find what is quadratic, in a build without optimisation on
/// a busy machine.
const TIME: Duration = Duration::from_millis(500);
const TIME_A_BYTE: Duration = Duration::from_micros(4);

impl Bounds {
    /// Runs `work` on an input of `len` bytes. All that it allocates counts, freed or not, and its thread's processor
    /// time; other threads must be idle (see [`super::driver`]).
    ///
    /// # Panics
    /// When a bound is exceeded.
    pub(crate) fn hold<T>(self, len: usize, work: impl FnOnce() -> T) -> T {
        let (memory, time) = (ALLOCATOR.total_allocated(), processor_time());
        let result = work();
        let (memory, time) = (ALLOCATOR.total_allocated() - memory, processor_time() - time);
        let most = self.memory + self.memory_a_byte * len;
        assert!(memory <= most, "an input of {len} bytes made it allocate {memory} bytes; {most} are allowed");
        let longest = TIME + TIME_A_BYTE * u32::try_from(len).unwrap();
        assert!(time <= longest, "an input of {len} bytes took {time:?} of processor time; {longest:?} are allowed");
        result
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

#[test]
#[should_panic(expected = "made it allocate")]
fn too_much_memory_is_noticed() {
    let _alone = super::driver::alone();
    Bounds { memory: 0, memory_a_byte: 10 }.hold(100, || drop(Vec::<u8>::with_capacity(2000)));
}

#[test]
#[should_panic(expected = "of processor time")]
fn too_much_time_is_noticed() {
    let _alone = super::driver::alone();
    let begin = processor_time();
    Bounds { memory: 1 << 30, memory_a_byte: 0 }.hold(1, || while processor_time() - begin < TIME * 2 {});
}
