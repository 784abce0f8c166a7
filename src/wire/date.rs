//! Dates: the HTTP date of headers and templates, and the date in the statistics.
//!
//! Source: RFC 9110, section 5.6.7. The parser accepts what nginx's `ngx_parse_http_time` accepts.
//!
//! ```text
//!   Tue, 05 May 2026 09:08:07 GMT     rendered; 29 bytes
//!   Tuesday, 05-May-26 09:08:07 GMT   also parsed (RFC 850)
//!   Tue May  5 09:08:07 2026          also parsed (asctime)
//!   2026-05-05T09:08:07               rendered for statistics
//! ```
//!
//! As in nginx, a one-digit day in the first form cannot be parsed, and what follows the seconds is
//! ignored. Clients notice both.

use std::cell::Cell;

use crate::model::Seconds;

/// Bytes of a rendered HTTP date.
pub const HTTP_DATE_LEN: usize = 29;

/// The last second that has a four-digit year.
const LAST: Seconds = 253_402_300_799;
const DAY: Seconds = 86_400;
const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

thread_local! {
    /// The date that was rendered last, and its second. Most of those that follow are the same, and clients
    /// send it back.
    static LATEST: Cell<(Seconds, [u8; HTTP_DATE_LEN])> = const {
        Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT"))
    };
}

/// `Tue, 05 May 2026 09:08:07 GMT`. A time outside the years 1970 to 9999 gives the nearest one.
pub fn http_date(time: Seconds) -> [u8; HTTP_DATE_LEN] {
    let time = time.clamp(0, LAST);
    let (latest, date) = LATEST.get();
    if latest == time {
        return date;
    }
    let date = render(time);
    LATEST.set((time, date));
    date
}

/// Reads an HTTP date in one of the three forms. `None`: it is none of them, or no real date.
pub fn parse(value: &[u8]) -> Option<Seconds> {
    let (latest, date) = LATEST.get();
    if date == value { Some(latest) } else { read(value) }
}

fn render(time: Seconds) -> [u8; HTTP_DATE_LEN] {
    let civil = Civil::new(time);
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    put(&mut date, 0, WEEKDAYS.get(civil.weekday).copied().unwrap_or(b"???"));
    put(&mut date, 5, &two_digits(civil.day));
    put(&mut date, 8, MONTHS.get(civil.month.wrapping_sub(1)).copied().unwrap_or(b"???"));
    put(&mut date, 12, &two_digits(civil.year / 100));
    put(&mut date, 14, &two_digits(civil.year % 100));
    put(&mut date, 17, &two_digits(civil.second_of_day / 3600));
    put(&mut date, 20, &two_digits(civil.second_of_day / 60 % 60));
    put(&mut date, 23, &two_digits(civil.second_of_day % 60));
    date
}

/// `2026-05-05T09:08:07`, UTC without a zone mark.
pub fn iso_date(time: Seconds) -> [u8; 19] {
    let civil = Civil::new(time);
    let mut date = *b"1970-01-01T00:00:00";
    put(&mut date, 0, &two_digits(civil.year / 100));
    put(&mut date, 2, &two_digits(civil.year % 100));
    put(&mut date, 5, &two_digits(civil.month));
    put(&mut date, 8, &two_digits(civil.day));
    put(&mut date, 11, &two_digits(civil.second_of_day / 3600));
    put(&mut date, 14, &two_digits(civil.second_of_day / 60 % 60));
    put(&mut date, 17, &two_digits(civil.second_of_day % 60));
    date
}

fn read(value: &[u8]) -> Option<Seconds> {
    let stop = value.iter().position(|byte| matches!(byte, b',' | b' '))?;
    let asctime = value.get(stop) == Some(&b' ');
    let mut reader = Reader(value.get(stop + 1..)?);
    reader.skip_spaces();

    let (year, month, day);
    if asctime {
        month = reader.month()?;
        reader.expect(b' ')?;
        reader.skip_one_space();
        day = reader.number(1, 2)?;
        reader.expect(b' ')?;
        let clock = reader.clock()?;
        reader.expect(b' ')?;
        year = reader.number(4, 4)?;
        return seconds(year, month, day, clock);
    }
    day = reader.number(2, 2)?;
    let dash = reader.next()?;
    month = match dash {
        b' ' | b'-' => reader.month()?,
        _ => return None,
    };
    reader.expect(dash)?;
    year = match dash {
        b' ' => reader.number(4, 4)?,
        _ => match reader.number(2, 2)? {
            year @ 70.. => 1900 + year,
            year => 2000 + year,
        },
    };
    reader.expect(b' ')?;
    let clock = reader.clock()?;
    seconds(year, month, day, clock)
}

/// A time, split into its parts. `weekday` counts from Thursday, the first day of the epoch.
struct Civil {
    year: usize,
    month: usize,
    day: usize,
    weekday: usize,
    second_of_day: usize,
}

impl Civil {
    fn new(time: Seconds) -> Self {
        let time = usize::try_from(time.clamp(0, LAST)).unwrap_or(0);
        let (days, second_of_day) = (time / 86_400, time % 86_400);
        // Counts years from March to February, in eras of 400 years: the leap day is the last of
        // its year.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: era * 400 + year_of_era + usize::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            weekday: days % 7,
            second_of_day,
        }
    }
}

fn seconds(year: i64, month: i64, day: i64, clock: Seconds) -> Option<Seconds> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days_of_month = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=days_of_month).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * DAY + clock)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_one_space(&mut self) {
        self.0 = self.0.strip_prefix(b" ").unwrap_or(self.0);
    }

    fn skip_spaces(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    /// As many digits as there are, at least `min`, at most `max`.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let digits = self.0.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < min {
            return None;
        }
        let (digits, rest) = self.0.split_at(digits);
        self.0 = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    /// 1 to 12.
    fn month(&mut self) -> Option<i64> {
        let (name, rest) = self.0.split_first_chunk::<3>()?;
        self.0 = rest;
        let index = MONTHS.iter().position(|month| *month == name)?;
        i64::try_from(index + 1).ok()
    }

    /// `hh:mm:ss`, as seconds.
    fn clock(&mut self) -> Option<Seconds> {
        let hour = self.number(2, 2)?;
        self.expect(b':')?;
        let minute = self.number(2, 2)?;
        self.expect(b':')?;
        let second = self.number(2, 2)?;
        (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
    }
}

fn two_digits(number: usize) -> [u8; 2] {
    let digit = |n: usize| b'0' + u8::try_from(n % 10).unwrap_or(0);
    [digit(number / 10), digit(number)]
}

fn put(date: &mut [u8], at: usize, text: &[u8]) {
    for (to, from) in date.iter_mut().skip(at).zip(text) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_known_moments() {
        let cases: &[(Seconds, &str, &str)] = &[
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00"),
            (1, "Thu, 01 Jan 1970 00:00:01 GMT", "1970-01-01T00:00:01"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00"),
            (1_777_972_087, "Tue, 05 May 2026 09:08:07 GMT", "2026-05-05T09:08:07"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT", "2100-02-28T23:59:59"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00"),
            (LAST, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59"),
            (i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59"),
            (-5, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00"),
        ];
        for (time, http, iso) in cases {
            assert_eq!(String::from_utf8_lossy(&http_date(*time)), *http);
            assert_eq!(String::from_utf8_lossy(&iso_date(*time)), *iso);
        }
    }

    #[test]
    fn parses_what_nginx_parses() {
        let cases: &[(&str, Option<Seconds>)] = &[
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Sun Nov 16 08:49:37 1994", Some(784_111_777 + 10 * DAY)),
            ("Sun, 06 Nov 1994 08:49:37 GMT; length=3", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thursday, 01-Jan-70 00:00:00 GMT", Some(0)),
            ("Tuesday, 01-Jan-69 00:00:00 GMT", Some(3_124_224_000)),
            ("Wed, 31 Dec 1969 23:59:58 GMT", Some(-2)),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400)),
            ("Thu, 1 Jan 1970 00:00:00 GMT", None),
            ("Thu, 29 Feb 2100 00:00:00 GMT", None),
            ("Thu, 31 Apr 2020 00:00:00 GMT", None),
            ("Thu, 00 Apr 2020 00:00:00 GMT", None),
            ("Thu, 01 Jan 1970 24:00:00 GMT", None),
            ("Thu, 01 Jan 1970 00:60:00 GMT", None),
            ("Thu, 01 Xxx 1970 00:00:00 GMT", None),
            ("Thu, 01-Jan 1970 00:00:00 GMT", None),
            ("", None),
            (",", None),
            (" ", None),
            ("Thu", None),
            ("0", None),
            ("784111777", None),
            ("Sun, 06 Nov 1994 08:49:3", None),
        ];
        for (text, time) in cases {
            assert_eq!(parse(text.as_bytes()), *time, "{text}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "large input")]
    fn parse_undoes_render() {
        let mut time = 0;
        while time < 5_000_000_000 {
            assert_eq!(read(&render(time)), Some(time));
            time += 1_000_003;
        }
    }

    #[test]
    fn what_was_rendered_last_changes_no_answer() {
        for time in [-5, 0, 1, 1, 951_782_400, LAST, i64::MAX, 0] {
            let date = http_date(time);
            assert_eq!((date, parse(&date)), (render(time), read(&date)));
            for at in 0..HTTP_DATE_LEN {
                let mut other = date;
                other[at] ^= 1;
                assert_eq!(parse(&other), read(&other));
                assert_eq!(parse(&date[..at]), read(&date[..at]));
            }
            assert_eq!(parse(&[&date[..], b"; length=3"].concat()), Some(time.clamp(0, LAST)));
        }
    }
}
