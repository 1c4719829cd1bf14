//! Numbers, durations and rates as people type them, and errors that say what to type instead.

use std::time::Duration;

/// Longer is a typing error, and shorter than what a clock can be asked to add.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The most agents, and the most requests a second.
pub(crate) const MOST: u32 = 100_000;

/// How many there are, where there are never more than that.
pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(crate) fn agents(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(agents) if (1..=MOST).contains(&agents) => Ok(agents),
        Ok(0) => Err(format!("no agents make no load; say 1 to {MOST}")),
        Ok(_) => Err(format!("one process carries up to {MOST} agents; start more of them, on other machines")),
        Err(_) => Err(no_whole_number(text, "150")),
    }
}

pub(crate) fn iterations(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("0 is none at all; say 1 or more".to_owned()),
        Ok(iterations) => Ok(iterations),
        Err(_) => Err(no_whole_number(text, "10")),
    }
}

/// What is meant by `10k` or `1,000` can be told.
fn no_whole_number(text: &str, example: &str) -> String {
    let thousands =
        text.strip_suffix(['k', 'K']).and_then(|number| number.parse::<u64>().ok()).map(|n| n.saturating_mul(1000));
    let plain = text.replace([',', '_', '\'', ' '], "").parse::<u64>().ok();
    match thousands.or(plain) {
        Some(meant) => format!("write it in digits alone: {meant}"),
        None if text.starts_with('-') => format!("it cannot be negative; say a whole number like {example}"),
        None => format!("this is no whole number; say one like {example}"),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let no_duration = || {
        if text.starts_with("--") {
            format!("the value is missing: {text} is the next option; say 30s, 1500ms or 5m")
        } else if text.starts_with('-') {
            "time cannot be negative; say 30s, 1500ms or 5m".to_owned()
        } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text != "0" {
            format!("{text} what? The unit is missing; say {text}s, {text}ms or {text}m")
        } else {
            "this is no duration; say 30s, 1500ms or 5m".to_owned()
        }
    };
    let duration = humantime::parse_duration(text).map_err(|_| no_duration())?;
    if duration > LONGEST {
        return Err("more than a day".to_owned());
    }
    Ok(duration)
}

/// A duration in which something can happen.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("nothing can happen in no time; say 30s, 1500ms or 5m".to_owned()),
        duration => Ok(duration),
    }
}

/// Per second: `200/s`, `200`, `12000/m`.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (number, seconds) = match text.split_once('/') {
        None => (text, 1.0),
        Some((number, "s" | "sec" | "second")) => (number, 1.0),
        Some((number, "m" | "min" | "minute")) => (number, 60.0),
        Some((_, unit)) => return Err(format!("per {unit:?} is not known; say 200/s or 12000/m")),
    };
    match number.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 && rate / seconds <= f64::from(MOST) => Ok(rate / seconds),
        Ok(rate) if rate < 0.0 => Err("a rate cannot be negative; say 200/s".to_owned()),
        Ok(_) => Err(format!("up to {MOST}/s can be asked for")),
        Err(_) => Err("this is no rate; say 200/s or 12000/m".to_owned()),
    }
}

pub(crate) fn some_rate(text: &str) -> Result<f64, String> {
    match rate(text)? {
        0.0 => Err("at rate 0 nothing is ever sent; say 200/s".to_owned()),
        rate => Ok(rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_is_told_what_to_write_instead() {
        for (text, says) in [
            ("10k", "10000"),
            ("10K", "10000"),
            ("1,000", "1000"),
            ("1_000", "1000"),
            ("-5", "negative"),
            ("many", "150"),
            ("", "150"),
            ("0", "1 to"),
            ("4000000", "100000"),
            ("99999999999", "99999999999"),
        ] {
            let error = agents(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!((agents("1"), agents("100000")), (Ok(1), Ok(100_000)));
        assert!(iterations("0").is_err() && iterations("2k").unwrap_err().contains("2000"));
    }

    #[test]
    fn a_duration_that_is_none_is_told_what_to_write_instead() {
        for (text, says) in [
            ("-5s", "negative"),
            ("-1", "negative"),
            ("30", "30s"),
            ("soon", "say 30s, 1500ms or 5m"),
            ("", "say 30s, 1500ms or 5m"),
            ("5 parsecs", "no duration"),
            ("25h", "more than a day"),
            ("--json", "the value is missing"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(some_time("0s").unwrap_err().contains("no time"));
    }

    #[test]
    fn a_rate_is_per_second_or_per_minute() {
        assert_eq!(
            (rate("200/s"), rate("200"), rate("12000/m"), rate("0.5/s")),
            (Ok(200.0), Ok(200.0), Ok(200.0), Ok(0.5))
        );
        for (text, says) in
            [("200/h", "per \"h\""), ("-1/s", "negative"), ("NaN", "up to"), ("fast", "200/s"), ("1e9/s", "up to")]
        {
            assert!(rate(text).unwrap_err().contains(says), "{text}");
        }
        assert!(some_rate("0/s").is_err());
    }
}
