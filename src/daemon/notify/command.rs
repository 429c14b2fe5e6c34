//! Runs a program with a message. The program gets none of the daemon's capabilities, only the path of its environment,
//! and a time limit.

use std::process::Stdio;

use anyhow::{Context, ensure};
use caps::CapSet;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the program with `input` on its standard input, until it is over. Dropped before, it kills the program with all
/// that it has started and that is still in its process group.
///
/// # Errors
///
/// It cannot be started, or does not end well.
pub(super) async fn run(
    words: &[String],
    environment: impl IntoIterator<Item = (&'static str, String)>,
    input: String,
) -> anyhow::Result<()> {
    let (program, arguments) = words.split_first().context("no program is configured")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).envs(environment).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).kill_on_drop(true);
    // On a thread that runs no other program: the capabilities that iptables inherits are not for this one.
    let spawned = tokio::task::spawn_blocking(move || {
        caps::clear(None, CapSet::Ambient)?;
        command.spawn().map_err(anyhow::Error::from)
    });
    let mut child = spawned.await?.with_context(|| format!("cannot run `{program}`"))?;
    let mut group = ProcessGroup(child.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw));
    let stdin = child.stdin.take();
    let hand_over = async move {
        if let Some(mut stdin) = stdin {
            // That it does not read to the end is its business.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), status) = tokio::join!(hand_over, child.wait());
    // It is no more; its number may be another's by now.
    group.0 = None;
    let status = status?;
    ensure!(status.success(), "`{program}` ended with {status}");
    Ok(())
}

/// A process group that is killed when nobody waits for it any more.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}
