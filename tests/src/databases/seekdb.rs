//! OceanBase's server of one process, which speaks MySQL's protocol.

use std::path::Path;

use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::standalone;

use super::archive::Archive;
use super::{Launched, MYSQL_PORT, Part, Running, SQL_OF_MYSQL, as_nobody};

/// Of OceanBase's package for Python, which starts the program that is in it.
const SEEKDB: Archive = Archive {
    title: "OceanBase seekdb 1.4.0",
    url: "https://files.pythonhosted.org/packages/c3/ca/57b3732abf6a67ee74a6fd117874d8faeded532e3c95c151eaf901ea60cb/pylibseekdb-1.4.0.post1-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256: "7c1c1e13148189af1332f69b896a818b674db3a4615c7caf1c9db05055738ad6",
    inner: None,
    folder: "pylibseekdb",
};

/// The least that it starts with: it takes the room of its data and of its log at once.
const SETTINGS: [&str; 3] = ["datafile_size=2G", "log_disk_size=2G", "memory_limit=2G"];

/// The tests of the SQL on a server that is started.
pub(super) fn part(shell: &Context) -> Result<Part> {
    let program = SEEKDB.programs(shell)?.join("seekdb");
    let folder = shell.paths.cache().join("seekdb");
    standalone::empty(&folder)?;
    let port = port::free()?;
    let running = Launched::mysql(SEEKDB.title, &server(&program, &folder.join("data"), port)?, folder, port)?;
    let running = vec![Running::Launched(running)];
    Ok(Part::of_sql(SEEKDB.title, &SQL_OF_MYSQL, (MYSQL_PORT, port.to_string()), running))
}

/// The program with its data in a folder that is made.
fn server(program: &Path, data: &Path, port: u16) -> Result<Run> {
    let run = Run::new(program, data).args(["--nodaemon", "--port", &port.to_string(), "--base-dir"]).arg(data);
    as_nobody(run.args(SETTINGS.iter().flat_map(|setting| ["--parameter", setting])), data)
}
