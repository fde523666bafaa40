//! TiDB, which speaks MySQL's protocol, with its storage within the process: no TiKV and no PD.

use std::path::Path;

use fs_err as fs;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::build::{Program, build_tools};
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::standalone;

use super::{Launched, MYSQL_PORT, Part, Running, SQL_OF_MYSQL, as_nobody};

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
    let running = Launched::mysql("TiDB", &server(&copy, &folder.join("data"), port)?, folder, port)?;
    let running = vec![Running::Launched(running)];
    Ok(Part::of_sql("TiDB", &SQL_OF_MYSQL, (MYSQL_PORT, port.to_string()), running))
}

/// The program with its data and its logs in a folder that is made.
fn server(program: &Path, data: &Path, port: u16) -> Result<Run> {
    let run = Run::new(program, data).args(["-store", "unistore", "-host", "127.0.0.1", "-L", "error", "-path"]);
    let run = run.arg(data.join("store")).arg("-P").arg(port.to_string());
    as_nobody(run.arg("-status").arg(port::free()?.to_string()), data)
}
