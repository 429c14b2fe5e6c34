//! The drawing of `top`, for a frame of any size. All text of the daemon goes through [`plain`]: strangers wrote some
//! of it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cmp::Reverse;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::symbols::bar::NINE_LEVELS;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{
    Block, BorderType, Cell, Clear, Padding, Paragraph, RenderDirection, Row, Sparkline, Table, TableState,
    Wrap,
};

use super::state::{Focus, LATEST, Rate, Sample, TopState};
use crate::cli::{COLUMNS, cells, short};
use crate::control::{BanLine, SourceState, SourceStatus, TemplateStatus};
use crate::model::Offender;
use crate::model::plain;
use crate::tools::terminal::with_local_times;

/// From this size on, what is beside the bans stands to their right, and not below.
const WIDE: (u16, u16) = (120, 30);
/// The columns that it takes there.
const SIDE: u16 = 50;
/// From how many bytes that wait on the ledger's disk is behind.
const BEHIND: u64 = 1 << 20;
/// From which width on the list of bans has all columns.
const ALL_COLUMNS: u16 = 100;
/// How much room the column of countries and networks takes at least; what is longer is cut.
const PLACE: u16 = 16;
/// From which width on a table of counts is whole.
const ROOMY: u16 = 44;
/// The rows of what is below the bans otherwise.
const BELOW: u16 = 8;

/// Styles by what they mean. Colours are the terminal's own sixteen, so that they suit its background.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    good: Style,
    warn: Style,
    bad: Style,
    entries: Style,
    offences: Style,
    bans: Style,
    dim: Style,
}

impl Theme {
    /// With colours.
    pub(super) fn coloured() -> Self {
        Self {
            good: Style::new().fg(Color::Green),
            warn: Style::new().fg(Color::Yellow),
            bad: Style::new().fg(Color::Red).bold(),
            entries: Style::new().fg(Color::Cyan),
            offences: Style::new().fg(Color::Yellow),
            bans: Style::new().fg(Color::Red),
            dim: Style::new().dim(),
        }
    }

    /// Without.
    pub(super) fn plain() -> Self {
        let none = Style::new();
        Self {
            good: none,
            warn: none.bold(),
            bad: none.bold(),
            entries: none,
            offences: none,
            bans: none,
            dim: none.dim(),
        }
    }

    /// A frame with a title, and what is to be said at its right end.
    fn frame(&self, title: &str, right: &str) -> Block<'static> {
        let block = Block::bordered()
            .border_type(BorderType::Rounded)
            .border_style(self.dim)
            .title(Span::styled(format!(" {title} "), Modifier::BOLD))
            .padding(Padding::horizontal(1));
        if right.is_empty() { block } else { block.title(Line::from(format!(" {right} ")).right_aligned()) }
    }
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &TopState, theme: &Theme) {
    let area = frame.area();
    let alarms = state.alarms();
    let charts = match area.height {
        ..16 => 0,
        16..40 => 5,
        40.. => 8,
    };
    let [head, alarm, charts, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(alarms.len().min(3) as u16),
        Constraint::Length(charts),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(header(state, theme), head);
    let alarms = alarms.iter().map(|alarm| Line::styled(format!(" {}", plain(alarm)), theme.bad));
    frame.render_widget(Text::from_iter(alarms), alarm);
    frame.render_widget(footer(state, theme), foot);
    if let Some(sample) = &state.last {
        rates(frame, state, sample, theme, charts);
        if area.width >= WIDE.0 && area.height >= WIDE.1 {
            wide(frame, state, sample, theme, body);
        } else {
            narrow(frame, state, sample, theme, body);
        }
        if state.away.is_some() {
            // What was, and may be no longer.
            frame.buffer_mut().set_style(charts.union(body), theme.dim);
        }
    }
    match &state.focus {
        Focus::Why { who, lines, above } => why(frame, theme, charts.union(body), *who, lines, *above),
        Focus::Help => help(frame, theme),
        Focus::List | Focus::Filter | Focus::Unban(_) => {}
    }
}

fn narrow(frame: &mut Frame<'_>, state: &TopState, sample: &Sample, theme: &Theme, area: Rect) {
    let below = if area.height >= BELOW + 6 { BELOW } else { 0 };
    let [list, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(below)]).areas(area);
    let thirds = [Constraint::Fill(29), Constraint::Fill(23), Constraint::Fill(28)];
    let [by_jail, by_grammar, rest] = Layout::horizontal(thirds).areas(below);
    bans(frame, state, theme, list);
    jails(frame, state, sample, theme, by_jail);
    grammars(frame, state, sample, theme, by_grammar);
    health(frame, sample, theme, rest);
}

fn wide(frame: &mut Frame<'_>, state: &TopState, sample: &Sample, theme: &Theme, area: Rect) {
    let status = &sample.status;
    let templates: usize = status.unmatched.iter().map(|unmatched| unmatched.templates.len()).sum();
    let [left, side] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(SIDE)]).areas(area);
    let unknown_rows = if templates == 0 { 0 } else { templates.min(7) + 3 };
    let [list, below] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(unknown_rows as u16)]).areas(left);
    let rows = |count: usize| Constraint::Max((count + 3) as u16);
    let [by_jail, by_grammar, rest] =
        Layout::vertical([rows(status.jails.len()), rows(status.grammars.len()), Constraint::Fill(1)])
            .areas(side);
    bans(frame, state, theme, list);
    unknown(frame, sample, theme, below);
    jails(frame, state, sample, theme, by_jail);
    grammars(frame, state, sample, theme, by_grammar);
    health(frame, sample, theme, rest);
}

fn header(state: &TopState, theme: &Theme) -> Line<'static> {
    let mut line = vec![Span::from(" banstream").bold()];
    if let Some(Sample { status, .. }) = &state.last {
        line.push(Span::from(format!(" {}  up {}  ", plain(&status.version), short(status.uptime))));
        line.push(match (&state.away, &status.enforcement.error, status.enforcement.mode.as_str()) {
            (Some(_), ..) => Span::styled("no answer", theme.bad),
            (None, Some(_), _) => Span::styled("not enforced", theme.bad),
            (None, None, "none") => Span::styled("decides only", theme.warn),
            (None, None, _) => Span::styled("enforced", theme.good),
        });
    }
    if state.paused {
        line.push(Span::styled("  paused", theme.warn));
    }
    Line::from(line)
}

const KEYS: &[(&str, &str)] = &[
    ("\u{2191}\u{2193}", " choose"),
    ("w", "hy"),
    ("u", "nban"),
    ("/", " filter"),
    ("p", "ause"),
    ("?", " help"),
    ("q", "uit"),
];

fn footer(state: &TopState, theme: &Theme) -> Line<'static> {
    match (&state.focus, &state.notice) {
        (Focus::Unban(who), _) => {
            Line::styled(format!(" unban {who}? y/n"), theme.warn.add_modifier(Modifier::BOLD))
        }
        (Focus::Filter, _) => Line::from(format!(" /{}\u{2588}  Enter keeps it, Esc ends it", state.filter)),
        (_, Some(notice)) => Line::styled(format!(" {}", plain(notice)), theme.warn),
        (_, None) => {
            Line::from_iter(KEYS.iter().flat_map(|(key, rest)| {
                [Span::from(format!("  {key}")).bold(), Span::styled(*rest, theme.dim)]
            }))
        }
    }
}

fn rates(frame: &mut Frame<'_>, state: &TopState, sample: &Sample, theme: &Theme, area: Rect) {
    let status = &sample.status;
    let charts = [
        ("Entries", &state.entries, status.entries, theme.entries),
        ("Offences", &state.offences, status.offences, theme.offences),
        ("Bans", &state.bans, status.bans, theme.bans),
    ];
    let areas: [Rect; 3] = Layout::horizontal([Constraint::Fill(1); 3]).areas(area);
    for ((title, rate, total, style), area) in charts.into_iter().zip(areas) {
        let all = if area.width >= ROOMY { format!("{} in total", amount(total)) } else { amount(total) };
        let block = theme.frame(&format!("{title} {}/s", per_second(rate.now())), &all);
        let block = block.padding(Padding::ZERO);
        let chart = Sparkline::default()
            .data(rate.past.iter().map(|rate| bar(*rate)))
            .direction(RenderDirection::RightToLeft)
            .style(style);
        frame.render_widget(chart.block(block), area);
    }
}

/// A rate in thousandths, so that rare things have a bar, too.
fn bar(rate: f64) -> u64 {
    (rate * 1000.0) as u64
}

fn bans(frame: &mut Frame<'_>, state: &TopState, theme: &Theme, area: Rect) {
    let listed = state.listed();
    let last = state.last.as_ref().map(|sample| &sample.status);
    let (banned, observed) = last.map_or((0, 0), |status| (status.banned, status.observed));
    let mut title = format!("Bans {} in force", amount(banned - observed.min(banned)));
    if observed > 0 {
        title += &format!(", {} observed", amount(observed));
    }
    if !state.filter.is_empty() {
        title += &format!(", /{}", state.filter);
    }
    let right = if listed.len() >= LATEST { format!("the latest {LATEST}") } else { String::new() };
    let places = state.last.as_ref().map(|sample| &sample.places).filter(|places| !places.is_empty());
    let place = |ban: &BanLine| places.and_then(|places| places.get(&ban.address)).map(ToString::to_string);
    let row = |cells: [String; 6], place: String| cells.into_iter().chain([place]).collect::<Vec<_>>();
    let head = row(COLUMNS.map(str::to_owned), "WHERE".to_owned());
    let rows: Vec<_> =
        listed.iter().map(|ban| row(cells(ban).map(plain), place(ban).unwrap_or_default())).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0) as u16
    };
    let mut columns = if area.width >= ALL_COLUMNS { vec![0, 1, 2, 3, 4, 5] } else { vec![0, 1, 2, 5] };
    let taken: u16 = columns.iter().map(|&column| width(column) + 2).sum();
    if places.is_some() && taken + PLACE <= area.width.saturating_sub(4) {
        columns.push(6);
    }
    let pick = |row: &Vec<String>| columns.iter().filter_map(|&column| row.get(column).cloned()).collect();
    let widths = columns.iter().take(columns.len() - 1).map(|&column| Constraint::Length(width(column)));
    let (head, rows): (Vec<String>, Vec<Vec<String>>) = (pick(&head), rows.iter().map(pick).collect());
    let widths: Vec<Constraint> = widths.chain([Constraint::Fill(1)]).collect();
    let row = state.row(&listed);
    let inside = usize::from(area.height.saturating_sub(3));
    // The chosen one in the middle, so that one sees what is around it.
    let above = row.saturating_sub(inside / 2).min(rows.len().saturating_sub(inside));
    let mut place = TableState::new().with_offset(above).with_selected((!rows.is_empty()).then_some(row));
    let table = Table::new(rows.into_iter().map(Row::new), widths)
        .header(Row::new(head).style(theme.dim))
        .column_spacing(2)
        .row_highlight_style(Modifier::REVERSED)
        .block(theme.frame(&title, &right));
    frame.render_stateful_widget(table, area, &mut place);
    if listed.is_empty() && area.height > 3 {
        let text = if banned == 0 { "nobody is banned" } else { "no ban matches the filter" };
        let area = Rect { y: area.y + 2, height: 1, ..area };
        frame.render_widget(Line::styled(text, theme.dim).centered(), area);
    }
}

fn jails(frame: &mut Frame<'_>, state: &TopState, sample: &Sample, theme: &Theme, area: Rect) {
    let mut jails: Vec<_> = sample.status.jails.iter().collect();
    jails.sort_by_key(|jail| Reverse((jail.banned, jail.bans, jail.tracked)));
    let rows = jails.iter().map(|jail| {
        (jail.name.as_str(), [jail.banned, jail.bans, jail.tracked], state.jails.get(&jail.name))
    });
    counts(frame, theme, area, "Jails", ["JAIL", "BANNED", "BANS", "TRACKED"], theme.bans, rows.collect());
}

fn grammars(frame: &mut Frame<'_>, state: &TopState, sample: &Sample, theme: &Theme, area: Rect) {
    let mut grammars: Vec<_> = sample.status.grammars.iter().collect();
    grammars.sort_by_key(|grammar| Reverse((grammar.offences, grammar.logins)));
    let rows = grammars.iter().map(|grammar| {
        (grammar.name.as_str(), [grammar.offences, grammar.logins], state.grammars.get(&grammar.name))
    });
    counts(frame, theme, area, "Grammars", ["GRAMMAR", "OFFENCES", "LOGINS"], theme.offences, rows.collect());
}

/// A table of names and what they have counted. Where there is room: all columns, and how often in a line of bars;
/// otherwise one column less.
fn counts<const N: usize, const M: usize>(
    frame: &mut Frame<'_>,
    theme: &Theme,
    area: Rect,
    title: &str,
    head: [&'static str; M],
    style: Style,
    rows: Vec<(&str, [u64; N], Option<&Rate>)>,
) {
    let room = usize::from(area.height.saturating_sub(3));
    let hidden = rows.len().saturating_sub(room);
    let more = if hidden > 0 { format!("{hidden} more") } else { String::new() };
    let (shown, bars) = if area.width >= ROOMY { (N, 12) } else { (N - 1, 0) };
    let rows = rows.into_iter().map(|(name, counts, rate)| {
        let numbers = counts.into_iter().take(shown);
        let numbers = numbers.map(|count| Cell::from(Text::from(amount(count)).right_aligned()));
        let line = rate.map(|rate| sparks(rate, bars)).unwrap_or_default();
        let line = (bars > 0).then(|| Cell::from(line).style(style));
        Row::new([Cell::from(plain(name))].into_iter().chain(numbers).chain(line))
    });
    let titles = head.iter().take(shown + 1).enumerate();
    let titles = titles.map(|(column, head)| {
        let text = Text::from(*head);
        if column > 0 { text.right_aligned() } else { text }
    });
    let widths = head.iter().skip(1).take(shown).map(|head| Constraint::Length((head.len() as u16).max(5)));
    let widths = [Constraint::Fill(1)].into_iter().chain(widths);
    let table = Table::new(rows, widths.chain((bars > 0).then_some(Constraint::Length(bars as u16))))
        .header(Row::new(titles).style(theme.dim))
        .block(theme.frame(title, &more));
    frame.render_widget(table, area);
}

/// The latest rates in one line, the latest at its right end.
fn sparks(rate: &Rate, width: usize) -> String {
    let most = rate.past.iter().take(width).copied().fold(0.0, f64::max);
    let levels = [
        " ",
        NINE_LEVELS.one_eighth,
        NINE_LEVELS.one_quarter,
        NINE_LEVELS.three_eighths,
        NINE_LEVELS.half,
        NINE_LEVELS.five_eighths,
        NINE_LEVELS.three_quarters,
        NINE_LEVELS.seven_eighths,
        NINE_LEVELS.full,
    ];
    let level = |rate: f64| levels.get((rate / most * 8.0).ceil() as usize).copied().unwrap_or(" ");
    let drawn: Vec<&str> = rate.past.iter().take(width).map(|rate| level(*rate)).collect();
    format!("{:>width$}", drawn.into_iter().rev().collect::<String>())
}

fn health(frame: &mut Frame<'_>, sample: &Sample, theme: &Theme, area: Rect) {
    let status = &sample.status;
    let mut rows: Vec<(String, String, Style)> = Vec::new();
    let longest = status.sources.iter().map(|source| source.name.len() as u16).max().unwrap_or(0);
    let names = longest.min(area.width / 2).max(11);
    for source in &status.sources {
        let style = if source.state == SourceState::Running { theme.good } else { theme.bad };
        rows.push((source.name.clone(), how(source), style));
    }
    let forged: u64 = status.forged.iter().map(|forged| forged.lines).sum();
    let unmatched: u64 = status.unmatched.iter().map(|unmatched| unmatched.lines).sum();
    for (name, lines) in [("unknown", unmatched), ("forged", forged)] {
        let style = if lines > 0 { theme.warn } else { theme.dim };
        rows.push((name.to_owned(), amount(lines), style));
    }
    if status.refused > 0 {
        rows.push(("refused".to_owned(), amount(status.refused), theme.warn));
    }
    let ledger = &status.ledger;
    let (told, style) = match (&ledger.error, &ledger.path) {
        (Some(_), _) => ("fails".to_owned(), theme.bad),
        (None, None) => ("none".to_owned(), theme.dim),
        (None, Some(_)) if ledger.waiting >= BEHIND => {
            (format!("{}, {} wait", bytes(ledger.bytes), bytes(ledger.waiting)), theme.good)
        }
        (None, Some(_)) => (bytes(ledger.bytes), theme.good),
    };
    rows.push(("ledger".to_owned(), told, style));
    // The fullest first: all of them may not fit.
    let mut sets: Vec<_> = status.enforcement.sets.iter().collect();
    sets.sort_by_key(|set| Reverse(set.elements * 1_000_000 / set.capacity.max(1)));
    for set in sets {
        let full = format!("{} of {}", amount(set.elements), amount(set.capacity));
        rows.push((set.name.clone(), full, theme.good));
    }
    if let Some(repaired) = &status.enforcement.repaired {
        rows.push(("repaired".to_owned(), with_local_times(repaired), theme.warn));
    }
    let rows = rows.into_iter().map(|(name, told, style)| {
        Row::new([Cell::from(plain(&name)), Cell::from(Line::styled(plain(&told), style))])
    });
    let table =
        Table::new(rows, [Constraint::Length(names), Constraint::Fill(1)]).block(theme.frame("Health", ""));
    frame.render_widget(table, area);
}

/// How a source is: whether it reads, how far it is behind, whether anything comes.
fn how(source: &SourceStatus) -> String {
    match (source.state, source.silent, source.lag) {
        (SourceState::Failed, ..) => "is not read".to_owned(),
        (_, None, _) | (_, _, None) => "nothing yet".to_owned(),
        (_, Some(silent), _) if silent >= 60 => format!("quiet {}", short(silent)),
        (_, _, Some(lag)) if lag < 1000 => format!("lag {lag} ms"),
        (_, _, Some(lag)) => format!("lag {}", short(lag / 1000)),
    }
}

/// What lines look like that name an address and that no rule knows.
fn unknown(frame: &mut Frame<'_>, sample: &Sample, theme: &Theme, area: Rect) {
    let rows = sample.status.unmatched.iter().flat_map(|unmatched| {
        let row = |template: &TemplateStatus| {
            let lines = Text::from(amount(template.lines)).right_aligned();
            Row::new([Text::from(plain(&unmatched.grammar)), lines, Text::from(plain(&template.template))])
        };
        unmatched.templates.iter().map(row)
    });
    let table = Table::new(rows, [Constraint::Length(12), Constraint::Length(5), Constraint::Fill(1)])
        .header(Row::new(["GRAMMAR", "LINES", "LOOKS LIKE"]).style(theme.dim))
        .column_spacing(2)
        .block(theme.frame("Lines that match no rule", ""));
    frame.render_widget(table, area);
}

/// What is known of somebody, over the upper part of `area`.
fn why(frame: &mut Frame<'_>, theme: &Theme, area: Rect, who: Offender, lines: &[String], above: usize) {
    let inside = usize::from(area.width.saturating_sub(4)).max(1);
    let rows: usize = lines.iter().map(|line| line.chars().count().div_ceil(inside).max(1)).sum();
    let more = if rows + 2 > usize::from(area.height) { "arrows scroll, Esc closes" } else { "Esc closes" };
    let area = Rect { height: area.height.min((rows + 2).try_into().unwrap_or(u16::MAX)), ..area };
    let text: Vec<Line<'_>> = lines.iter().map(|line| Line::from(plain(line))).collect();
    let text =
        Paragraph::new(text).wrap(Wrap { trim: false }).scroll((above.try_into().unwrap_or(u16::MAX), 0));
    frame.render_widget(Clear, area);
    frame.render_widget(text.block(theme.frame(&format!("why {who}"), more)), area);
}

fn help(frame: &mut Frame<'_>, theme: &Theme) {
    let lines = [
        "up down j k   choose a ban",
        "PgUp PgDn     by ten",
        "g             back to the latest",
        "w Enter       why it is banned",
        "u             unban it",
        "/             filter by address or jail",
        "Esc           end the filter",
        "p             pause",
        "q             quit",
        "",
        "BANNED is now, BANS is since the start; TRACKED is",
        "offenders that are not banned yet.",
    ];
    let area = frame.area().centered(Constraint::Length(54), Constraint::Length(lines.len() as u16 + 2));
    let text = Text::from_iter(lines);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).block(theme.frame("Keys", "")), area);
}

/// A number in five characters at most.
fn amount(number: u64) -> String {
    let scaled = [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    match scaled.iter().find(|(unit, _)| number >= *unit && number >= 10_000) {
        Some((unit, sign)) if number / unit < 100 => format!("{:.1}{sign}", number as f64 / *unit as f64),
        Some((unit, sign)) => format!("{}{sign}", number / unit),
        None => number.to_string(),
    }
}

fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 9.95 { format!("{rate:.1}") } else { amount(rate.round() as u64) }
}

fn bytes(number: u64) -> String {
    let scaled = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match scaled.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, sign)) => format!("{:.1} {sign}", number as f64 / *unit as f64),
        None => format!("{number} B"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossterm::event::KeyCode;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::super::state::tests::{press, sample};
    use super::*;
    use crate::tools::geoip::GeoRecord;

    /// What is drawn at this size.
    fn drawn(state: &TopState, theme: &Theme, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, theme)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn text(buffer: &Buffer) -> String {
        let rows = buffer.content().chunks(usize::from(buffer.area.width));
        rows.map(|row| {
            let row: String = row.iter().map(|cell| cell.symbol()).collect();
            format!("{}\n", row.trim_end())
        })
        .collect()
    }

    /// A state after two samples, a second apart.
    fn state() -> TopState {
        let mut state = TopState::new();
        state.sample(sample(10, &[2, 1]), Duration::from_secs(1));
        state.sample(sample(13, &[3, 2, 1]), Duration::from_secs(1));
        state
    }

    #[track_caller]
    fn check(state: &TopState, width: u16, height: u16, want: &str) {
        let got = text(&drawn(state, &Theme::plain(), width, height));
        assert_eq!(got, want.trim_start_matches('\n'), "\n{got}");
    }

    #[test]
    fn all_of_it_fits_80_columns_and_24_rows() {
        check(
            &state(),
            80,
            24,
            "
 banstream 0.1.0  up 3d 4h  enforced
╭ Entries 30/s ────── 130 ╮╭ Offences 3.0/s ──── 13 ╮╭ Bans 1.0/s ────────── 3 ╮
│                        █││                       █││                        █│
│                        █││                       █││                        █│
│                        █││                       █││                        █│
╰─────────────────────────╯╰────────────────────────╯╰─────────────────────────╯
╭ Bans 3 in force ─────────────────────────────────────────────────────────────╮
│ ADDRESS    JAIL  ENDS       REASON                                           │
│ 192.0.2.3  sshd  in 9m 12s  5 offences within 10m                            │
│ 192.0.2.2  sshd  in 9m 12s  5 offences within 10m                            │
│ 192.0.2.1  sshd  in 9m 12s  5 offences within 10m                            │
│                                                                              │
│                                                                              │
│                                                                              │
╰──────────────────────────────────────────────────────────────────────────────╯
╭ Jails ────────────────────╮╭ Grammars ───────────╮╭ Health ──────────────────╮
│ JAIL         BANNED  BANS ││ GRAMMAR    OFFENCES ││ journald    lag 8 ms     │
│ sshd              3     3 ││ sshd             13 ││ unknown     70           │
│ http-auth         0     0 ││                     ││ forged      4            │
│                           ││                     ││ ledger      4.0 KiB      │
│                           ││                     ││ banstream4  3 of 1.0M    │
│                           ││                     ││                          │
╰───────────────────────────╯╰─────────────────────╯╰──────────────────────────╯
  ↑↓ choose  why  unban  / filter  pause  ? help  quit
",
        );
    }

    #[test]
    fn a_large_terminal_shows_more() {
        check(&state(), 124, 30, "
 banstream 0.1.0  up 3d 4h  enforced
╭ Entries 30/s ──────────────────── 130 ╮╭ Offences 3.0/s ──────────────────── 13 ╮╭ Bans 1.0/s ──────────────────────── 3 ╮
│                                      █││                                       █││                                      █│
│                                      █││                                       █││                                      █│
│                                      █││                                       █││                                      █│
╰───────────────────────────────────────╯╰────────────────────────────────────────╯╰───────────────────────────────────────╯
╭ Bans 3 in force ───────────────────────────────────────────────────────╮╭ Jails ─────────────────────────────────────────╮
│ ADDRESS    JAIL  ENDS       REASON                                     ││ JAIL         BANNED  BANS TRACKED              │
│ 192.0.2.3  sshd  in 9m 12s  5 offences within 10m                      ││ sshd              3     3      40            █ │
│ 192.0.2.2  sshd  in 9m 12s  5 offences within 10m                      ││ http-auth         0     0       0              │
│ 192.0.2.1  sshd  in 9m 12s  5 offences within 10m                      │╰────────────────────────────────────────────────╯
│                                                                        │╭ Grammars ──────────────────────────────────────╮
│                                                                        ││ GRAMMAR           OFFENCES LOGINS              │
│                                                                        ││ sshd                    13      1            █ │
│                                                                        │╰────────────────────────────────────────────────╯
│                                                                        │╭ Health ────────────────────────────────────────╮
│                                                                        ││ journald    lag 8 ms                           │
│                                                                        ││ unknown     70                                 │
│                                                                        ││ forged      4                                  │
│                                                                        ││ ledger      4.0 KiB                            │
│                                                                        ││ banstream4  3 of 1.0M                          │
│                                                                        ││                                                │
│                                                                        ││                                                │
│                                                                        ││                                                │
╰────────────────────────────────────────────────────────────────────────╯│                                                │
╭ Lines that match no rule ──────────────────────────────────────────────╮│                                                │
│ GRAMMAR       LINES  LOOKS LIKE                                        ││                                                │
│ sshd             60  Login of �[2J from <ip>                           ││                                                │
╰────────────────────────────────────────────────────────────────────────╯╰────────────────────────────────────────────────╯
  ↑↓ choose  why  unban  / filter  pause  ? help  quit
");
    }

    #[test]
    fn countries_and_networks_stand_where_there_is_room() {
        let mut sample = sample(13, &[3, 2]);
        sample.locate(|who| GeoRecord {
            country: (who.to_string() == "192.0.2.3").then(|| "NL".to_owned()),
            ..GeoRecord::default()
        });
        let mut state = TopState::new();
        state.sample(sample, Duration::from_secs(1));
        let list = |width, height| {
            let text = text(&drawn(&state, &Theme::plain(), width, height));
            let lines = text.lines().filter_map(|line| line.split('│').nth(1)).map(str::trim_end);
            lines.skip_while(|line| !line.starts_with(" ADDRESS")).take(3).collect::<Vec<_>>().join("\n")
        };
        let rows = " ADDRESS    JAIL  ENDS       REASON                 WHERE
 192.0.2.3  sshd  in 9m 12s  5 offences within 10m  NL
 192.0.2.2  sshd  in 9m 12s  5 offences within 10m";
        assert_eq!(list(124, 30), rows);
        assert_eq!(list(80, 24), rows);
        assert!(!list(70, 24).contains("WHERE"));
    }

    #[test]
    fn why_is_shown_over_it_and_alarms_on_top() {
        let mut state = state();
        state.away("no daemon answers".to_owned());
        state.explain("192.0.2.3".parse().unwrap(), "192.0.2.3 is banned\n\n  by \u{1b}[2J");
        check(
            &state,
            60,
            14,
            "
 banstream 0.1.0  up 3d 4h  no answer
 no daemon answers
╭ why 192.0.2.3 ─────────────────────────────── Esc closes ╮
│ 192.0.2.3 is banned                                      │
│                                                          │
│   by �[2J                                                │
╰──────────────────────────────────────────────────────────╯
│                                                          │
│                                                          │
│                                                          │
│                                                          │
│                                                          │
╰──────────────────────────────────────────────────────────╯
  ↑↓ choose  why  unban  / filter  pause  ? help  quit
",
        );
    }

    #[test]
    fn a_question_and_a_notice_stand_at_the_foot() {
        let foot = |state: &TopState| {
            let text = text(&drawn(state, &Theme::plain(), 80, 24));
            text.lines().last().unwrap().to_owned()
        };
        let mut state = state();
        press(&mut state, &[KeyCode::Down, KeyCode::Char('u')]);
        assert_eq!(foot(&state), " unban 192.0.2.2? y/n");
        press(&mut state, &[KeyCode::Char('n')]);
        assert_eq!(foot(&state), " 192.0.2.2 stays banned");
        press(&mut state, &[KeyCode::Char('/'), KeyCode::Char('9')]);
        assert_eq!(foot(&state), " /9\u{2588}  Enter keeps it, Esc ends it");
    }

    #[test]
    fn no_size_is_too_small_and_none_too_large() {
        let mut states = [TopState::new(), state(), state(), state()];
        states[2].explain("192.0.2.3".parse().unwrap(), &"x\n".repeat(1000));
        press(&mut states[3], &[KeyCode::Char('?')]);
        for state in &states {
            for (width, height) in [(1, 1), (1, 80), (300, 1), (5, 3), (20, 10), (40, 12), (250, 90)] {
                drawn(state, &Theme::coloured(), width, height);
            }
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        let colours = |theme: &Theme| {
            let buffer = drawn(&state(), theme, 124, 30);
            let plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
            buffer.content().iter().filter(|cell| !plain(cell)).count()
        };
        assert!(colours(&Theme::coloured()) > 0);
        assert_eq!(colours(&Theme::plain()), 0);
    }

    #[test]
    fn the_chosen_ban_is_in_sight() {
        let hosts: Vec<u8> = (0..=255).rev().collect();
        let mut state = TopState::new();
        state.sample(sample(0, &hosts), Duration::from_secs(1));
        for _ in 0..30 {
            press(&mut state, &[KeyCode::Down]);
            let buffer = drawn(&state, &Theme::plain(), 80, 24);
            let chosen: String = buffer
                .content()
                .iter()
                .filter(|cell| cell.modifier.contains(Modifier::REVERSED))
                .map(|cell| cell.symbol())
                .collect();
            let listed = state.listed();
            let want = listed[state.row(&listed)].address.to_string();
            assert!(chosen.starts_with(&format!("{want} ")), "{want} is not in `{chosen}`");
        }
    }

    #[test]
    fn numbers_are_short() {
        let amounts = [0, 9_999, 10_000, 99_949, 100_000, 1_048_576, 123_456_789, 5_000_000_000].map(amount);
        assert_eq!(amounts, ["0", "9999", "10.0k", "99.9k", "100k", "1.0M", "123M", "5.0G"]);
        let rates = [0.0, 0.04, 0.5, 9.94, 9.96, 1234.5, 54_321.0].map(per_second);
        assert_eq!(rates, ["0", "0.0", "0.5", "9.9", "10", "1235", "54.3k"]);
        assert_eq!([999, 4096, 3 << 20].map(bytes), ["999 B", "4.0 KiB", "3.0 MiB"]);
    }
}
