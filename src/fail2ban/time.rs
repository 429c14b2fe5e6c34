//! fail2ban's times: `10`, `10m`, `1h 30m`, `1w`, `1month`, `60*60`, `-1`.

/// Seconds in each unit, by the beginning of its name; a month is a twelfth of a year.
const UNITS: [(&str, f64); 8] = [
    ("mo", 2_629_800.0),
    ("y", 31_557_600.0),
    ("w", 604_800.0),
    ("d", 86_400.0),
    ("h", 3_600.0),
    ("mi", 60.0),
    ("m", 60.0),
    ("s", 1.0),
];

/// The seconds of such a time, negative for one without an end; `None` where it is not understood. Several of them add
/// up; `*`, `+`, `-` and `/` are taken as they come, from left to right within a product.
pub(super) fn seconds(text: &str) -> Option<f64> {
    let text = text.trim().to_lowercase();
    let (mut sum, mut product, mut operator): (f64, Option<f64>, char) = (0.0, None, '+');
    let mut sign = 1.0;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        rest = rest.trim_start();
        if let Some(c) = rest.chars().next().filter(|c| "+-*/".contains(*c)) {
            match c {
                '+' | '-' => {
                    sum += sign * product.take().unwrap_or(0.0);
                    sign = if c == '-' { -1.0 } else { 1.0 };
                    operator = '+';
                }
                _ => operator = c,
            }
            rest = rest.get(1..)?;
            continue;
        }
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let value = number.parse::<f64>().ok()? * unit_seconds(unit)?;
        product = Some(match (product, operator) {
            (Some(before), '*') => before * value,
            (Some(before), '/') => before / value,
            (Some(before), _) => {
                sum += sign * before;
                value
            }
            (None, _) => value,
        });
        operator = '+';
        rest = after;
    }
    let all = sum + sign * product?;
    all.is_finite().then_some(all)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    match unit {
        "" => Some(1.0),
        unit => UNITS.into_iter().find(|(known, _)| unit.starts_with(known)).map(|(_, seconds)| seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read() {
        for (text, want) in [
            ("10", 10.0),
            ("10m", 600.0),
            ("1h 30m", 5_400.0),
            ("1d12h", 129_600.0),
            ("1hour+30min", 5_400.0),
            ("1w", 604_800.0),
            ("1month", 2_629_800.0),
            ("1 year - 6mo", 15_778_800.0),
            ("60*60", 3_600.0),
            ("4 * 1w", 2_419_200.0),
            ("-1", -1.0),
            ("1.5h", 5_400.0),
        ] {
            assert_eq!(seconds(text), Some(want), "{text}");
        }
        for text in ["", "soon", "1 fortnight", "1h x", "*"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
