//! `banstream bans`: which bans to list, and the list as a table, in a pager, or again and again.

use std::io::{IsTerminal, Write, stdout};
use std::process::{Command as Process, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::HumanCount;
use tokio::signal::unix::{SignalKind, signal};

use super::answer::{COLUMNS, cells, print, print_to};
use super::{REFUSED, SocketArgs, geoip, jail, span};
use crate::control::client::{self, UNCLEAR};
use crate::control::{BanFilter, BanLine, BanSort, Command};
use crate::model::{BanOrigin, Offender, Span};
use crate::tools::geoip::GeoIp;
use crate::tools::offline::warn;
use crate::tools::terminal::{local, table};

/// Which bans to list, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct BansArgs {
    /// Only the bans on this address or prefix, and on prefixes around it
    #[arg(value_name = "ADDR|CIDR")]
    pub address: Option<Offender>,
    /// Only the bans in this prefix
    #[arg(long = "in", value_name = "CIDR")]
    pub inside: Option<Offender>,
    /// Only the bans of this jail
    #[arg(long, value_name = "NAME", value_parser = jail)]
    pub jail: Option<String>,
    /// Only bans by threshold (`auto`), by command (`manual`), of prefixes (`wide`), or of other hosts of the fleet (`peer`)
    #[arg(long, value_name = "KIND", value_parser = named([BanOrigin::Auto, BanOrigin::Manual, BanOrigin::Wide, BanOrigin::Peer], BanOrigin::name))]
    pub kind: Option<BanOrigin>,
    /// Only bans that began within this time, such as 1h or 7d
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub since: Option<Span>,
    /// What comes first: the lowest address, the latest (`since`), the next to end (`until`), or the most bans (`times`)
    #[arg(long, value_name = "KEY", value_parser = named(BanSort::ALL, BanSort::name))]
    pub sort: Option<BanSort>,
    /// At most this many
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<usize>,
    /// Only the latest bans, this many: the same as `--sort since --limit NUMBER`
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["sort", "limit"])]
    pub last: Option<usize>,
    /// Print what `ban --from` reads: a ban a line
    #[arg(long, conflicts_with = "json")]
    pub export: bool,
    /// List again every two seconds
    #[arg(long, conflicts_with_all = ["json", "export"])]
    pub watch: bool,
}

/// A parser of the names of these.
fn named<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [T; N],
    name: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    // It is one of them, since all others are refused.
    PossibleValuesParser::new(all.map(name))
        .try_map(move |text| all.into_iter().find(|one| name(*one) == text).ok_or("unknown"))
}

impl BansArgs {
    pub(super) fn filter(&self) -> BanFilter {
        let Self { address, inside, jail, kind, since, sort, limit, last, .. } = self;
        let sort = sort.or(last.map(|_| BanSort::Since)).unwrap_or_default();
        BanFilter {
            address: *address,
            inside: *inside,
            jail: jail.clone(),
            kind: *kind,
            own: false,
            since: *since,
            text: String::new(),
            sort,
            limit: limit.or(*last),
        }
    }
}

/// How often `--watch` lists.
const EVERY: Duration = Duration::from_secs(2);
/// How many bans it lists where the size of the terminal is not known.
const SOME: usize = 20;

/// Lists bans.
///
/// # Errors
///
/// No daemon answers, or its answer cannot be understood or printed.
pub(super) fn list(remote: &SocketArgs, args: &BansArgs) -> anyhow::Result<ExitCode> {
    let filter = args.filter();
    ensure!(!args.watch || stdout().is_terminal(), "`--watch` needs a terminal");
    let is_table = !args.export && !remote.json;
    // The first answer names its files.
    let mut geoip = None;
    if args.watch {
        loop {
            let height = crossterm::terminal::size().map_or(SOME, |(_, height)| usize::from(height));
            // The head, the totals, and where the cursor stays.
            let fits = height.saturating_sub(4).max(1);
            let filter = BanFilter { limit: Some(filter.limit.unwrap_or(fits).min(fits)), ..filter.clone() };
            let answer = client::send(&remote.socket, &Command::Bans(filter.clone()))?;
            let text = match answer.refusal() {
                None => {
                    let geoip = geoip.get_or_insert_with(|| geoip::open(&answer.geoip));
                    text(&filter, &answer.body, answer.total, geoip).context(UNCLEAR)?
                }
                Some(error) => error,
            };
            // A line that is too long is cut, not wrapped.
            print_to(stdout(), &format!("\x1b[H\x1b[2J\x1b[?7l{}\x1b[?7h", coloured(text)))?;
            std::thread::sleep(EVERY);
        }
    }
    let answer = match args.export {
        true => client::export(&remote.socket, &filter)?,
        false => client::send(&remote.socket, &Command::Bans(filter.clone()))?,
    };
    let mut geoip = if is_table { geoip::open(&answer.geoip) } else { GeoIp::default() };
    match answer.refusal() {
        _ if remote.json => print(&format!("{}\n", answer.body))?,
        Some(error) => warn(format_args!("error: {error}")),
        // To look for colours in a million lines takes longer than all the rest.
        None if args.export => print_to(stdout().lock(), &answer.body)?,
        None => page(&text(&filter, &answer.body, answer.total, &mut geoip).context(UNCLEAR)?)?,
    }
    geoip::warn_of(&mut geoip);
    Ok(if answer.done { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// The bans that a filter lists, of so many, and where they are by these files.
pub(super) fn text(
    filter: &BanFilter,
    body: &str,
    total: Option<u64>,
    geoip: &mut GeoIp,
) -> serde_json::Result<String> {
    let bans: Vec<BanLine> = serde_json::from_str(body)?;
    let listed = bans.len() as u64;
    let total = total.unwrap_or(listed);
    let is_all = BanFilter { sort: filter.sort, limit: filter.limit, ..BanFilter::default() } == *filter;
    let rows = bans.iter().map(|ban| {
        let [address, jail, ends, times, ports, reason] = cells(ban);
        [address, jail, local(&ban.since), ends, times, ports, reason]
    });
    let [address, jail, ends, times, ports, reason] = COLUMNS;
    let head = [address, jail, "SINCE", ends, times, ports, reason];
    let table = if geoip.is_empty() {
        table(head, rows)
    } else {
        let [address, jail, since, ends, times, ports, reason] = head;
        let rows = rows.zip(&bans).map(|(row, ban)| {
            let [address, jail, since, ends, times, ports, reason] = row;
            [address, jail, since, ends, times, ports, reason, geoip.find(ban.address).to_string()]
        });
        table([address, jail, since, ends, times, ports, reason, "WHERE"], rows)
    };
    let noun = if total == 1 { "ban" } else { "bans" };
    Ok(match total {
        0 if is_all => "nobody is banned\n".to_owned(),
        0 => "no such ban\n".to_owned(),
        _ if listed < total => {
            format!("{}{} of {} {noun}\n", table.trim_start(), HumanCount(listed), HumanCount(total))
        }
        _ => format!("{}{} {noun}\n", table.trim_start(), HumanCount(total)),
    })
}

/// The text for a terminal, without colours where `NO_COLOR` asks for none.
fn coloured(text: String) -> String {
    let is_plain = anstream::AutoStream::choice(&stdout()) == anstream::ColorChoice::Never;
    if is_plain { anstream::adapter::strip_str(&text).to_string() } else { text }
}

/// Prints, on a terminal through `$PAGER` or `less`, which ends by itself where the text fits on the screen. As git does,
/// it gives `less` the options F, R and X unless `$LESS` has others. It is not an error if there is no pager.
fn page(text: &str) -> anyhow::Result<()> {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    let mut words = pager.split_whitespace();
    let program = words.next().filter(|program| *program != "cat" && stdout().is_terminal());
    let Some(program) = program else { return print(text) };
    let mut command = Process::new(program);
    command.args(words).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }
    // Ctrl-C is the pager's, as long as it runs: we would leave it alone with the terminal.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _interrupt = runtime.block_on(async { signal(SignalKind::interrupt()) })?;
    let Ok(mut pager) = command.spawn() else { return print(text) };
    let text = coloured(text.to_owned());
    // Who has seen enough leaves it before the end.
    drop(pager.stdin.take().map(|mut input| input.write_all(text.as_bytes())));
    pager.wait().context("cannot wait for the pager")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &BanFilter, body: &str, total: u64, want: &str) {
        let text = text(filter, body, Some(total), &mut GeoIp::default()).unwrap();
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), want.trim_start_matches('\n'));
    }

    #[test]
    fn bans_are_printed_as_a_table_with_a_total() {
        let (all, ssh) =
            (BanFilter::default(), BanFilter { jail: Some("sshd".to_owned()), ..Default::default() });
        check(&all, "[]", 0, "nobody is banned\n");
        check(&BanFilter::latest(3), "[]", 0, "nobody is banned\n");
        check(&ssh, "[]", 0, "no such ban\n");
        let body = r#"[
            {"address": "192.0.2.1", "jail": "sshd", "kind": "auto", "ports": ["22/tcp", "2222/tcp"],
             "since": "2023-11-14T22:13:20Z", "until": "2023-11-14T22:23:20Z", "left": 552, "times": 2,
             "reason": "5 auth-failure"},
            {"address": "192.0.2.1", "jail": "ftp", "kind": "auto", "mode": "observe", "ports": [],
             "since": "2023-11-14T22:13:20Z", "until": "2023-11-14T22:23:20Z", "left": 552, "times": 1,
             "reason": "5 auth-failure"},
            {"address": "2001:db8::/32", "jail": "manual", "kind": "manual", "ports": [],
             "since": "2023-11-14T22:13:20Z", "until": null, "left": null, "times": 1,
             "reason": "\u001b[2J"}
        ]"#;
        let at = local("2023-11-14T22:13:20Z");
        let rows = format!(
            "
ADDRESS        JAIL            SINCE                ENDS       TIMES  PORTS            REASON
192.0.2.1      sshd            {at}  in 9m 12s  2      22/tcp 2222/tcp  5 auth-failure
192.0.2.1      ftp (observed)  {at}  in 9m 12s  1      all              5 auth-failure
2001:db8::/32  manual          {at}  never      1      all              \u{fffd}[2J
"
        );
        check(&all, body, 3, &format!("{rows}3 bans\n"));
        check(&ssh, body, 1_234_567, &format!("{rows}3 of 1,234,567 bans\n"));
    }
}
