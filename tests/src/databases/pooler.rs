//! PostgreSQL behind a pooler: what stands between keeps no session from one transaction to the next, or lets a standby
//! answer what only reads.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::unistd::{Gid, Uid, geteuid};
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::standalone::{self, Standalone};

use super::{DIRECT, Launched, Part, Running, THROUGH_POOLERS, installed};

const DATABASE: Database = Database::Postgres;

/// For the connections of several tests at once, each of which a pooler may carry over to a server.
const MORE: &str = "max_connections = 300\nshared_buffers = 64MB\n";

/// How late the standby is. Each read that follows a write and goes there does not see the write.
const LATE: &str = "recovery_min_apply_delay = 300ms\n";

/// Through PgBouncer, which gives each transaction the connection to the server that is free.
pub(super) fn pgbouncer(folder: &Path) -> Result<Part> {
    let program = installed("pgbouncer", "/usr/sbin/pgbouncer")?;
    standalone::empty(folder)?;
    let primary = Standalone::primary(folder, MORE)?;
    let (port, own) = (port::free()?, primary.folder_beside("pgbouncer")?);
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={} user=sluice password={}\n[pgbouncer]\nlisten_addr=127.0.0.1\n\
         listen_port={port}\nunix_socket_dir=\npool_mode=transaction\nauth_type=any\nmax_client_conn=1000\n\
         default_pool_size=20\nserver_round_robin=1\n",
        primary.port,
        DATABASE.password(folder)?
    );
    let file = write(&own, "pgbouncer.ini", &settings)?;
    let run = as_owner_of(&file, &program)?.arg(&file);
    through("PgBouncer", &run, &own, port, primary, vec![])
}

/// Through Pgpool-II, which has the standby answer what looks as if it only read.
pub(super) fn pgpool(folder: &Path) -> Result<Part> {
    let program = installed("pgpool2", "/usr/sbin/pgpool")?;
    standalone::empty(folder)?;
    let primary = Standalone::primary(folder, MORE)?;
    let standby = primary.standby("standby", LATE)?;
    let (port, own) = (port::free()?, primary.folder_beside("pgpool")?);
    let at = own.display();
    let mut settings = format!(
        "backend_clustering_mode='streaming_replication'\nlisten_addresses='127.0.0.1'\nport={port}\n\
         pcp_listen_addresses='127.0.0.1'\npcp_port={}\nsocket_dir='{at}'\npcp_socket_dir='{at}'\n\
         pid_file_name='{at}/pgpool.pid'\nlogdir='{at}'\nwork_dir='{at}'\nenable_pool_hba=on\n\
         pool_passwd='{at}/passwords'\nload_balance_mode=on\nstatement_level_load_balance=on\n\
         num_init_children=120\nmax_pool=1\nsr_check_period=0\nhealth_check_period=0\n\
         failover_on_backend_error=off\n",
        port::free()?
    );
    // The standby alone reads, as far as Pgpool-II sees that it may.
    for (node, server, flags) in [(0, &primary, "ALWAYS_PRIMARY|"), (1, &standby, "")] {
        let more = format!(
            "backend_hostname{node}='127.0.0.1'\nbackend_port{node}={}\nbackend_weight{node}={node}\n\
             backend_flag{node}='{flags}DISALLOW_TO_FAILOVER'\n",
            server.port
        );
        settings.push_str(&more);
    }
    let file = write(&own, "pgpool.conf", &settings)?;
    write(&own, "passwords", &format!("sluice:TEXT{}\n", DATABASE.password(folder)?))?;
    let hba = write(&own, "pool_hba.conf", "host all all 127.0.0.1/32 trust\n")?;
    let run = as_owner_of(&file, &program)?.args(["-n", "-a"]).arg(hba).args(["-F", "/dev/null", "-f"]).arg(file);
    through("Pgpool-II", &run, &own, port, primary, vec![standby])
}

/// Starts the pooler; the tests are run through it.
fn through(
    title: &str,
    run: &Run,
    own: &Path,
    port: u16,
    primary: Standalone,
    others: Vec<Standalone>,
) -> Result<Part> {
    let ready = DATABASE.tool("pg_isready", "/")?.args(["-q", "-h", "127.0.0.1", "-p"]).arg(port.to_string());
    let pooler = Running::Launched(Launched::start(title, run, own.to_owned(), || ready.run())?);
    let direct = primary.endpoint.clone();
    let endpoint = direct.replace(&format!(":{}/", primary.port), &format!(":{port}/"));
    // The primary is stopped last: the others' folders are in its own.
    let servers = std::iter::once(primary).chain(others).map(Running::Standalone).chain([pooler]).collect();
    let mut part = Part::new(format!("shim on PostgreSQL through {title}"), &THROUGH_POOLERS, endpoint, servers);
    part.variables.push((DIRECT, direct));
    Ok(part)
}

/// A file with passwords in it, of the user that its folder belongs to.
fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let (path, owner) = (folder.join(name), fs::metadata(folder)?);
    fs::write(&path, text)?;
    fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    fs_err::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid()))?;
    Ok(path)
}

/// Poolers refuse to run as root, as PostgreSQL does.
fn as_owner_of(file: &Path, program: &Path) -> Result<Run> {
    let (run, owner) = (Run::new(program, "/"), fs::metadata(file)?);
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    Ok(if geteuid().is_root() { run.user(user, group) } else { run })
}
