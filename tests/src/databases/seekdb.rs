//! OceanBase's server of one process, which speaks MySQL's protocol.

use std::path::Path;

use fs_err as fs;
use nix::unistd::{Gid, Uid, geteuid};
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::standalone;
use sluice_toolkit::cluster::wait::{LIMIT, until};

use super::archive::Archive;
use super::{Launched, Part, Running};

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

const NOBODY: u32 = 65534;

/// The tests of the SQL on a server that is started.
pub(super) fn part(shell: &Context) -> Result<Part> {
    let program = SEEKDB.programs(shell)?.join("seekdb");
    let folder = shell.paths.cache().join("seekdb");
    standalone::empty(&folder)?;
    let port = port::free()?;
    let process = launch(SEEKDB.title, &server(&program, &folder.join("data"), port)?, &folder.join("log"))?;
    let guard = Guard::new(Leftover::Process(process.clone()));
    process.save(&folder.join("pid"))?;
    let ask = Database::Mariadb.tool("mariadb", "/")?.args(["--no-defaults", "-h127.0.0.1", "-uroot", "-eSELECT 1"]);
    let ask = ask.arg(format!("-P{port}"));
    until(&format!("the start of {}", SEEKDB.title), LIMIT, || Ok(ask.run().is_ok().then_some(())))?;
    let running = Running::Launched(Launched { process, folder, _guard: guard });
    Ok(Part::of_sql(SEEKDB.title, &super::SQL_OF_MYSQL, (super::MYSQL_PORT, port.to_string()), vec![running]))
}

/// The program with its data in a folder that is made, run as a user who owns nothing else.
fn server(program: &Path, data: &Path, port: u16) -> Result<Run> {
    fs::create_dir(data)?;
    let run = Run::new(program, data).args(["--nodaemon", "--port", &port.to_string(), "--base-dir"]).arg(data);
    let run = run.args(SETTINGS.iter().flat_map(|setting| ["--parameter", setting]));
    if !geteuid().is_root() {
        return Ok(run);
    }
    fs_err::os::unix::fs::chown(data, Some(NOBODY), Some(NOBODY))?;
    Ok(run.user(Uid::from_raw(NOBODY), Gid::from_raw(NOBODY)))
}
