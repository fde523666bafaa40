//! Ends the programs that run when we are killed and can't do it ourselves: a compiler that went on would write the
//! files that our next run writes.
//!
//! A shell reads from us which groups there are. When we are gone, however that came, it reads the end of the file, and
//! kills those that are left.

use std::io::Write as _;
use std::process::{ChildStdin, Stdio};
use std::sync::{Mutex, PoisonError};

use super::Run;

/// `+N` adds a group, `-N` removes one. The list is parted and ended by blanks.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=' '
while read -r line; do
    group=${line#?}
    case $line in
        +*) groups="$groups$group " ;;
        -*) case $groups in *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;; esac ;;
    esac
done
for group in $groups; do
    kill -9 "-$group" 2>/dev/null
done
"#;

/// Where the shell of this process reads; none if it could not be started.
static GUARDIAN: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// A group is about to begin: to start the shell takes longer than a program needs to be at work, and whoever kills us
/// meanwhile would leave that program running.
pub(super) fn ready() {
    let mut guardian = GUARDIAN.lock().unwrap_or_else(PoisonError::into_inner);
    if guardian.is_none() {
        *guardian = start();
    }
}

/// A group has begun.
pub(super) fn add(leader: i32) {
    let mut guardian = GUARDIAN.lock().unwrap_or_else(PoisonError::into_inner);
    tell(&mut guardian, format_args!("+{leader}\n"));
}

/// A group has ended.
pub(super) fn remove(leader: i32) {
    let mut guardian = GUARDIAN.lock().unwrap_or_else(PoisonError::into_inner);
    tell(&mut guardian, format_args!("-{leader}\n"));
}

/// A guardian that was killed is replaced before the next group.
fn tell(guardian: &mut Option<ChildStdin>, line: std::fmt::Arguments<'_>) {
    let told = guardian.as_mut().is_some_and(|pipe| pipe.write_all(line.to_string().as_bytes()).is_ok());
    if !told {
        *guardian = None;
    }
}

/// In a group of its own: what is sent to ours must not reach it.
fn start() -> Option<ChildStdin> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Run::new("sh", "/").args(["-c", SCRIPT]).command(Stdio::null(), Stdio::null()).ok()?;
    command.stdin(Stdio::piped()).process_group(0).spawn().ok()?.stdin.take()
}
