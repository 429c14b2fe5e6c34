//! A program that runs on, and is told one event after the other: a line of JSON each, which it answers with a line.
//!
//! `OK` confirms an event, and `REFUSED why` drops it. After `ERROR why` it comes again, and after `WAIT seconds why` it does so
//! then. Anything else, or text without a question, could make an answer that of another event: the program is started
//! again. One that ends has confirmed nothing that it has not answered.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use futures_util::FutureExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};

use super::command::RunningCommand;
use super::each::EachOutcome;
use super::event::line;

/// The longest answer, in bytes.
const LONGEST: u64 = 4096;

/// The program, started and not yet at its end. Dropped, it is killed with all that it has started and that is still in
/// its process group.
pub struct Program {
    name: String,
    running: RunningCommand,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(super) async fn start(words: &[String], receiver: &str, host: &str) -> anyhow::Result<Self> {
        let environment = [("BANSTREAM_RECEIVER", receiver.to_owned()), ("BANSTREAM_HOST", host.to_owned())];
        let mut running = RunningCommand::start(words, environment, Stdio::piped()).await?;
        let child = &mut running.child;
        let (questions, answers) = child.stdin.take().zip(child.stdout.take()).context("no pipes")?;
        let name = words.first().cloned().unwrap_or_default();
        Ok(Self { name, running, questions, answers: BufReader::new(answers) })
    }

    /// The program, if it still runs. One that has ended between two events has lost none.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub(super) fn if_it_runs(mut self: Box<Self>) -> anyhow::Result<Option<Box<Self>>> {
        let Some(status) = self.running.ended()? else { return Ok(Some(self)) };
        log::warn!("`{}` ended with {status}, and is started again", self.name);
        Ok(None)
    }

    /// What it answers to this line.
    ///
    /// # Errors
    ///
    /// It has ended, or does not keep to the protocol: then it is of no more use.
    pub(super) async fn ask(&mut self, mut json: String) -> anyhow::Result<EachOutcome> {
        if let Some(unasked) = self.answers.fill_buf().now_or_never() {
            let unasked = line(String::from_utf8_lossy(unasked?).trim_end());
            ensure!(unasked.is_empty(), "`{}` wrote what is not an answer: {unasked}", self.name);
        }
        json.push('\n');
        // A program that has ended says below how.
        let _ = self.questions.write_all(json.as_bytes()).await;
        let mut answer = Vec::new();
        (&mut self.answers).take(LONGEST).read_until(b'\n', &mut answer).await?;
        if answer.pop() != Some(b'\n') {
            ensure!(answer.is_empty(), "`{}` answered with a line that does not end", self.name);
            bail!("`{}` ended with {}", self.name, self.running.wait().await?);
        }
        let answer = line(&String::from_utf8_lossy(&answer));
        // Taken for the answer, it would make the next answer that of another event.
        meaning(&self.name, &answer)
            .with_context(|| format!("`{}` wrote what is not an answer: {answer}", self.name))
    }

    /// Closes its input, and waits for its end.
    pub(super) async fn end(self) -> anyhow::Result<ExitStatus> {
        let Self { mut running, questions, .. } = self;
        drop(questions);
        running.wait().await
    }
}

/// What an answer of this program means; `None` if it is not one.
fn meaning(program: &str, answer: &str) -> Option<EachOutcome> {
    let (word, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    let failed = |after| EachOutcome::Failed(anyhow!("`{program}` answered: {answer}"), after);
    match word {
        "OK" if answer == "OK" => Some(EachOutcome::Delivered),
        "REFUSED" => Some(EachOutcome::Refused(format!("`{program}`: {rest}"))),
        "WAIT" => {
            let seconds = rest.split(' ').next()?.parse().ok()?;
            Some(failed(Some(Duration::from_secs(seconds))))
        }
        "ERROR" => Some(failed(None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_means() {
        #[track_caller]
        fn check(answer: &str, want: &str) {
            let outcome = match meaning("p", answer) {
                Some(EachOutcome::Delivered) => "delivered".to_owned(),
                Some(EachOutcome::Refused(why)) => why,
                Some(EachOutcome::Failed(error, after)) => format!("{error} {after:?}"),
                None => "nothing".to_owned(),
            };
            assert_eq!(outcome, want);
        }
        check("OK", "delivered");
        check("REFUSED no such thing", "`p`: no such thing");
        check("REFUSED", "`p`: ");
        check("ERROR no answer", "`p` answered: ERROR no answer None");
        check("WAIT 30 too many", "`p` answered: WAIT 30 too many Some(30s)");
        check("WAIT 30", "`p` answered: WAIT 30 Some(30s)");
        let wrong = ["OK ", "OK done", "ok", "", "REFUSEDLY", "Error: x", "WAIT", "WAIT a bit", "WAIT -1"];
        wrong.into_iter().for_each(|answer| check(answer, "nothing"));
    }
}
