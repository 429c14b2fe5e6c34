//! `top`: the live view in the terminal.
//!
//! The state (`state`) and the drawing (`view`) are pure; here is the loop that asks the daemon, reads keys and
//! signals, and restores the terminal. It asks at most once a second, to leave the daemon time for its work.

mod state;
mod view;

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt;
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::cli::{WhyDetail, why};
use crate::control::client::reply;
use crate::control::{BanFilter, ChangeReport, ChangeRequest, Command, Target};
use crate::model::{Offender, Span, plain};
use crate::tools::geoip::GeoIp;
use state::{KeyCommand, LATEST, Sample, TopState};
use view::Theme;

/// Shows the daemon that listens at `socket` until the operator has seen enough, and asks it this often.
///
/// The terminal is given back however this ends. That no daemon answers is shown, and does not end it.
///
/// # Errors
///
/// There is no terminal, or it cannot be drawn on.
pub fn run(socket: PathBuf, interval: Span) -> anyhow::Result<()> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        bail!("this command needs a terminal; `banstream status` does not");
    }
    let theme = match std::env::var_os("NO_COLOR") {
        Some(set) if !set.is_empty() => Theme::plain(),
        _ => Theme::coloured(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let interval = Duration::from_micros(interval.as_micros());
    let ended = runtime.block_on(watch(&mut terminal, &theme, socket.into(), interval));
    ratatui::restore();
    // An answer that is still awaited holds up nobody.
    runtime.shutdown_background();
    ended
}

/// What comes back from the daemon.
enum News {
    Sample(anyhow::Result<Box<Sample>>),
    Why(Offender, anyhow::Result<String>),
    Unbanned(Offender, anyhow::Result<ChangeReport>),
}

async fn watch(
    terminal: &mut DefaultTerminal,
    theme: &Theme,
    socket: Arc<Path>,
    interval: Duration,
) -> anyhow::Result<()> {
    let (mut hang_up, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (news, mut arriving) = mpsc::channel(8);
    let mut keys = EventStream::new();
    let mut round = tokio::time::interval(interval);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = TopState::new();
    let (mut asking, mut sampled) = (false, Instant::now());
    let (mut paths, mut geoip) = (Vec::new(), GeoIp::default());
    loop {
        terminal.draw(|frame| view::draw(frame, &state, theme)).context("cannot draw on the terminal")?;
        tokio::select! {
            _ = hang_up.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = round.tick(), if !state.paused => {
                if asking {
                    state.away("the daemon has not answered yet".to_owned());
                    continue;
                }
                asking = true;
                let (socket, news, text) = (Arc::clone(&socket), news.clone(), state.filter.clone());
                tokio::spawn(async move { news.send(News::Sample(sample(&socket, text).await)).await });
            }
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind == KeyEventKind::Press => match state.key(key) {
                    Some(KeyCommand::Quit) => return Ok(()),
                    Some(KeyCommand::Why(who)) => {
                        let (socket, news, place) = (Arc::clone(&socket), news.clone(), geoip.find(who));
                        tokio::spawn(async move {
                            let answer = reply(&socket, Command::Why(who)).await;
                            news.send(News::Why(who, answer.map(|answer| why(&answer, &place, WhyDetail::Lines)))).await
                        });
                    }
                    Some(KeyCommand::Unban(who)) => {
                        let (socket, news) = (Arc::clone(&socket), news.clone());
                        tokio::spawn(async move {
                            let answer = reply(&socket, Command::Change(ChangeRequest::Unban(Target::One(who)).into())).await;
                            news.send(News::Unbanned(who, answer)).await
                        });
                    }
                    None => {}
                },
                // Another size, mostly: everything is redrawn.
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            },
            Some(news) = arriving.recv() => match news {
                News::Sample(sample) => {
                    asking = false;
                    match sample {
                        Ok(mut sample) => {
                            if sample.status.geoip != paths {
                                paths.clone_from(&sample.status.geoip);
                                geoip = GeoIp::open(&paths);
                            }
                            sample.locate(|who| geoip.find(who));
                            geoip.faults().into_iter().for_each(|fault| state.notice(format!("geoip: {fault}")));
                            state.sample(*sample, sampled.elapsed());
                            sampled = Instant::now();
                        }
                        Err(error) => state.away(format!("{error:#}")),
                    }
                }
                News::Why(who, Ok(text)) => state.explain(who, &text),
                News::Unbanned(who, Ok(report)) => state.notice(unbanned(who, &report)),
                News::Why(_, Err(error)) | News::Unbanned(_, Err(error)) => state.notice(format!("{error:#}")),
            },
        }
    }
}

/// How it ended, and what is missing.
fn unbanned(who: Offender, report: &ChangeReport) -> String {
    let outcome =
        if report.changed == 0 { format!("{who} was not banned") } else { format!("unbanned {who}") };
    report.warnings().fold(outcome, |said, warning| format!("{said}; {}", plain(&warning.text)))
}

async fn sample(socket: &Path, text: String) -> anyhow::Result<Box<Sample>> {
    let status = reply(socket, Command::Status).await?;
    let bans = reply(socket, Command::Bans(BanFilter { text, ..BanFilter::latest(LATEST) })).await?;
    Ok(Box::new(Sample { status, bans, places: BTreeMap::new() }))
}
