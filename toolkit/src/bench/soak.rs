//! The load of `cargo xtask test soak`: the load generator with one sluice-shim for a long time.

use std::path::{Path, PathBuf};

use super::{MEASURING, store};
use crate::build::Program;
use crate::cluster::database::Database;
use crate::cluster::leftover;
use crate::cluster::standalone::Standalone;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;

/// How long the shim remembers deleted objects. With its usual hour a database becomes as large as it will be only
/// after an hour.
const TTL: (&str, &str) = ("SLUICE_GC_TOMBSTONE_TTL", "1m");

/// Builds sluice-shim, unless it is in the folder `patched` of `bin`, and the load generator, and runs them for so
/// many seconds, on a file or on a database server, which is started for it. Returns the folder with soak.csv,
/// soak.json and soak.svg, which is beside the logs.
///
/// # Errors
/// When something can't be built or started. What went wrong meanwhile is in soak.json.
pub fn soak(shell: &Context, seconds: u64, database: Option<Database>, bin: Option<&Path>) -> Result<PathBuf> {
    let shim = match bin {
        Some(bin) => fs_err::canonicalize(bin.join("patched").join(Program::SluiceShim.name()))?,
        None => store::built(shell, Program::SluiceShim)?,
    };
    let generator = store::generator(shell)?;
    leftover::clean_up_on_ctrl_c()?;
    let name = database.map_or("soak".to_owned(), |database| format!("soak-{}", database.value()));
    let _lock = shell.lock(&name)?;
    let (log, data) = (shell.paths.log(&name), shell.paths.cache().join(&name));
    let out = log.with_extension("");
    for folder in [&data, &out] {
        if folder.exists() {
            fs_err::remove_dir_all(folder)?;
        }
    }
    let run = Run::new(generator, shell.paths.root())
        .arg("soak")
        .arg("--shim")
        .arg(shim)
        .arg("--data")
        .arg(data.join("shim"))
        .arg("--out")
        .arg(&out)
        .args(["--seconds", &seconds.to_string()])
        .env(TTL.0, TTL.1)
        .log(log)
        .limit(MEASURING);
    match database {
        None => run.watch(|line| shell.out.note(line))?,
        Some(database) => {
            let server = Standalone::start(database, &data.join("server"))?;
            let run = run.arg("--database").arg(database.value()).arg("--database-pid").arg(server.pid().to_string());
            run.env(store::VARIABLE, &server.endpoint).watch(|line| shell.out.note(line))?;
            server.stop()?;
        }
    }
    fs_err::remove_dir_all(data)?;
    Ok(out)
}
