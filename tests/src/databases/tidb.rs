//! TiDB, which speaks MySQL's protocol, with its storage within the process: no TiKV and no PD.

use std::path::Path;

use fs_err as fs;
use nix::unistd::{Gid, Uid, geteuid};
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::build::{Program, build_tools};
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::standalone;
use sluice_toolkit::cluster::wait::{LIMIT, until};

use super::{Launched, MYSQL_PORT, Part, Running, SQL_OF_MYSQL};

const NOBODY: u32 = 65534;

/// The tests of the SQL on a server that is started.
pub(super) fn part(shell: &Context) -> Result<Part> {
    build_tools(shell, &[Program::Tidb])?;
    let folder = shell.paths.cache().join("tidb");
    standalone::empty(&folder)?;
    let program = shell.paths.tools(sluice_shell::platform::Platform::host()?).join(Program::Tidb.name());
    // The user that it runs as may not pass to where it was built.
    let copy = folder.join(Program::Tidb.name());
    fs::copy(program, &copy)?;
    let port = port::free()?;
    let process = launch("TiDB", &server(&copy, &folder.join("data"), port)?, &folder.join("log"))?;
    let guard = Guard::new(Leftover::Process(process.clone()));
    process.save(&folder.join("pid"))?;
    let ask = Database::Mariadb.tool("mariadb", "/")?.args(["--no-defaults", "-h127.0.0.1", "-uroot", "-eSELECT 1"]);
    let ask = ask.arg(format!("-P{port}"));
    until("the start of TiDB", LIMIT, || Ok(ask.run().is_ok().then_some(())))?;
    let running = vec![Running::Launched(Launched { process, folder, _guard: guard })];
    Ok(Part::of_sql("TiDB", &SQL_OF_MYSQL, (MYSQL_PORT, port.to_string()), running))
}

/// The program with its data and its logs in a folder that is made, run as a user who owns nothing else.
fn server(program: &Path, data: &Path, port: u16) -> Result<Run> {
    fs::create_dir(data)?;
    let run = Run::new(program, data).args(["-store", "unistore", "-host", "127.0.0.1", "-L", "error", "-path"]);
    let run = run.arg(data.join("store")).arg("-P").arg(port.to_string());
    let run = run.arg("-status").arg(port::free()?.to_string());
    if !geteuid().is_root() {
        return Ok(run);
    }
    fs_err::os::unix::fs::chown(data, Some(NOBODY), Some(NOBODY))?;
    Ok(run.user(Uid::from_raw(NOBODY), Gid::from_raw(NOBODY)))
}
