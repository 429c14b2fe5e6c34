//! Runs programs. A program gets none of the daemon's capabilities, only the path of its environment,
//! and a time limit.

use std::process::{ExitStatus, Stdio};

use anyhow::{Context, ensure};
use caps::CapSet;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

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
    let mut running = RunningCommand::start(words, environment, Stdio::null()).await?;
    let stdin = running.child.stdin.take();
    let hand_over = async move {
        if let Some(mut stdin) = stdin {
            // That it does not read to the end is its business.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), status) = tokio::join!(hand_over, running.wait());
    let status = status?;
    ensure!(status.success(), "`{}` ended with {status}", words.first().map_or("", String::as_str));
    Ok(())
}

/// A program that runs. Dropped, it is killed with its process group.
pub(super) struct RunningCommand {
    pub(super) child: Child,
    /// `None` once it is over: its number may be another's by then.
    group: Option<Pid>,
}

impl RunningCommand {
    /// Starts a program with a pipe to its standard input.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(super) async fn start(
        words: &[String],
        environment: impl IntoIterator<Item = (&'static str, String)>,
        output: Stdio,
    ) -> anyhow::Result<Self> {
        let (program, arguments) = words.split_first().context("no program is configured")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).envs(environment).current_dir("/");
        command.stdin(Stdio::piped()).stdout(output).process_group(0).kill_on_drop(true);
        // On a thread that runs no other program: the capabilities that iptables inherits are not for this one.
        let spawned = tokio::task::spawn_blocking(move || {
            caps::clear(None, CapSet::Ambient)?;
            command.spawn().map_err(anyhow::Error::from)
        });
        let child = spawned.await?.with_context(|| format!("cannot run `{program}`"))?;
        let group = child.id().and_then(|id| id.try_into().ok()).map(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        self.group = self.group.filter(|_| ended.is_none());
        Ok(ended)
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// The system does not say how it ended.
    pub(super) async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = self.child.wait().await;
        self.group = None;
        Ok(ended?)
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        if let Some(leader) = self.group {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}
