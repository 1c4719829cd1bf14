//! Times as results have them: since the epoch, or formatted.

use chrono::NaiveDate;

const DAY: i64 = 86_400_000;
const MINUTE: i64 = 60_000;
/// Later than this no clock of twelve hours goes.
const ONE: i64 = 13 * 60 * MINUTE;

/// Reads the times of one file, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// The last time of day without a date, and the half days since the first.
    last: Option<i64>,
    halves: i64,
    /// The last date as it may be meant, and as it was taken.
    date: Option<(Dates, i64)>,
}

/// Days since the epoch where the month comes before the day, and where the day comes first; of a date that can be both.
type Dates = [Option<i64>; 2];

impl Clock {
    /// Milliseconds since the epoch; of a time without a date since the first one's midnight. None if it is no time.
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<i64> {
        if let Some(ms) = since_epoch(text) {
            return Some(ms);
        }
        let (dates, time) = formatted(text)?;
        if let Some(dates) = dates {
            return self.day(dates)?.checked_mul(DAY)?.checked_add(time);
        }
        // Results are written in the order of their ends: much earlier than the last is the next day, much later the
        // day before. A clock of twelve hours goes back to one, by hardly less than half a day.
        let twelve = |later: i64, back: i64| later < ONE && back < DAY / 2 && back > DAY / 2 - MINUTE;
        match self.last {
            Some(last) if time < last - DAY / 2 => self.halves += 2,
            Some(last) if time > last + DAY / 2 => self.halves -= 2,
            Some(last) if twelve(last, last - time) => self.halves += 1,
            Some(last) if twelve(time, time - last) => self.halves -= 1,
            _ => {}
        }
        self.last = Some(time);
        Some(self.halves * (DAY / 2) + time)
    }

    /// The day of a date: what it is by itself, or what it is after the last one, the way in which it goes on soonest.
    fn day(&mut self, dates: Dates) -> Option<i64> {
        let alone = dates.into_iter().flatten().next()?;
        let day = self.date.map_or(alone, |(before, taken)| {
            let later = before.into_iter().zip(dates).filter_map(|(before, date)| Some(date? - before?));
            // Of two requests the one that ends first is written first: back it goes by a day at most.
            later.min_by_key(|days| (*days < -1, days.abs())).map_or(alone, |days| taken + days)
        });
        self.date = Some((dates, day));
        Some(day)
    }
}

/// Whether a time is written to the millisecond: of two requests in one second it tells which was when.
pub(crate) fn is_exact(text: &[u8]) -> bool {
    let (whole, fraction) = match text.iter().rposition(|b| matches!(b, b'.' | b',')) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default()),
        None => (text, &[][..]),
    };
    // `14.11.2023 22:13:20` has dots and no fraction.
    let epoch = !whole.is_empty() && whole.iter().all(u8::is_ascii_digit);
    let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    (epoch && whole.len() > 10) || ((epoch || whole.contains(&b':')) && digits > 0)
}

/// Seconds, milliseconds, microseconds or nanoseconds, told apart by how many digits there are.
fn since_epoch(text: &[u8]) -> Option<i64> {
    let whole = text.split(|b| *b == b'.').next().unwrap_or_default();
    if !(9..=19).contains(&whole.len()) || whole.iter().any(|b| !b.is_ascii_digit()) {
        return None;
    }
    let number: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
    match whole.len() {
        ..=10 => {
            let fraction: f64 = std::str::from_utf8(text.get(whole.len()..)?).ok()?.parse().unwrap_or_default();
            Some(number * 1_000 + (fraction * 1_000.0) as i64)
        }
        11..=13 => Some(number),
        14..=16 => Some(number / 1_000),
        _ => Some(number / 1_000_000),
    }
}

/// The date, if there is one, and the milliseconds in it.
fn formatted(text: &[u8]) -> Option<(Option<Dates>, i64)> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let colon = text.find(':')?;
    let begin = text.get(..colon)?.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    let date = text.get(..begin)?.trim_end_matches([' ', 'T', '_', '-']).trim();
    let dates = if date.is_empty() { None } else { Some(dates(date)?) };
    Some((dates, time_of_day(text.get(begin..)?)?))
}

fn time_of_day(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || ":.,".contains(c))).unwrap_or(text.len());
    let mut parts = text.get(..end)?.splitn(3, ':');
    let mut number = || parts.next().map(|part| part.split(['.', ',', ':']).next().unwrap_or_default().parse::<i64>());
    let (hour, minute, second) = (number()?.ok()?, number()?.ok()?, number().and_then(Result::ok).unwrap_or_default());
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let fraction = text.get(..end)?.rsplit([':']).next()?.split_once(['.', ',']).map_or("", |(_, fraction)| fraction);
    let millis = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    // As `PM`, `p.m.` and, with a blank that breaks no line, `p. m.`; a zone's name only begins so.
    let rest = text.get(end..)?.to_ascii_lowercase().replace(['.', '\u{a0}', '\u{202f}'], "");
    let says = |word| rest.split(|c: char| !c.is_alphanumeric()).any(|part| part == word);
    let hour = match hour {
        0..=12 if says("pm") => hour % 12 + 12,
        12 if says("am") => 0,
        _ => hour,
    };
    Some(((hour * 60 + minute) * 60 + second) * 1_000 + millis)
}

/// A date in numbers: year first, or the day first where dots are as in `dd.MM.yyyy`, or else either way.
fn dates(text: &str) -> Option<Dates> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).map(str::parse::<u32>);
    let (a, b, c) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    let of = |year: u32, month, day| {
        let year = if year < 100 { year + 2_000 } else { year };
        let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        Some(date.signed_duration_since(NaiveDate::default()).num_days())
    };
    let dates = match a {
        1_000.. => [of(a, b, c), None],
        _ if text.contains('.') => [None, of(c, b, a)],
        _ => [of(c, a, b), of(c, b, a)],
    };
    dates.iter().any(Option::is_some).then_some(dates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_of_all_ages() {
        for (text, expected) in [
            ("1700000000123", Some(1_700_000_000_123)),
            ("1700000000", Some(1_700_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500)),
            ("1700000000123456789", Some(1_700_000_000_123)),
            ("2023/11/14 22:13:20", Some(1_700_000_000_000)),
            ("2023-11-14T22:13:20.123Z", Some(1_700_000_000_123)),
            ("11/14/23 22:13:20", Some(1_700_000_000_000)),
            ("14.11.2023 22:13:20,5", Some(1_700_000_000_500)),
            ("11/14/2023 10:13:20 PM", Some(1_700_000_000_000)),
            ("11/14/2023 10:13:20 p.m.", Some(1_700_000_000_000)),
            ("14/11/2023 10:13:20 p.\u{a0}m. CET", Some(1_700_000_000_000)),
            ("11/14/2023 12:13:20 AM", Some(1_699_920_800_000)),
            ("11/14/2023 12:13:20 PM", Some(1_699_964_000_000)),
            ("Bad Request", None),
            ("", None),
            ("12:99:00", None),
        ] {
            assert_eq!(Clock::default().read(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_time_is_exact_where_it_has_milliseconds() {
        for (text, expected) in [
            ("1700000000123", true),
            ("1700000000", false),
            ("1700000000.5", true),
            ("2023/11/14 22:13:20", false),
            ("2023-11-14T22:13:20.123Z", true),
            ("14.11.2023 22:13:20", false),
            ("14.11.2023 22:13:20,5", true),
            ("23:59:57", false),
            ("", false),
        ] {
            assert_eq!(is_exact(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn midnight_is_passed_forwards_and_a_late_row_goes_back_over_it() {
        let mut clock = Clock::default();
        let read: Vec<_> = ["23:59:59", "00:00:01", "23:59:59", "00:00:02"].map(|t| clock.read(t.as_bytes())).into();
        let seconds: Vec<_> =
            read.iter().map(|ms| (ms.unwrap_or_default() - read[0].unwrap_or_default()) / 1_000).collect();
        assert_eq!(seconds, [0, 2, 0, 3]);
    }
}
