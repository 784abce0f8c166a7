//! Medians and ratios of a few runs.

/// A value in several runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Summary {
    /// `None` without values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, most })
    }

    /// Half of the distance between least and most, as a part of the median.
    pub(crate) fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.most - self.least) / 2.0 / self.median }
    }
}

/// The value with so many significant digits.
pub(crate) fn significant(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value)
}

/// A number with three significant digits, and commas: "1.23", "45.6", "12,300".
pub(crate) fn rounded(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let value = significant(value, 3);
    let digits = value.abs().log10().floor() as i32;
    if digits < 2 {
        return format!("{value:.*}", (2 - digits) as usize);
    }
    grouped(value.round() as i64)
}

/// "1,234,567"
pub(crate) fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        assert_eq!(Summary::of(Vec::new()), None);
        let odd = Summary::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.least, odd.most, odd.spread()), (2.0, 1.0, 3.0, 0.5));
        assert_eq!(Summary::of(vec![4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of(vec![0.0]).unwrap().spread(), 0.0);
    }

    #[test]
    fn digits_that_count() {
        for (value, rounded) in [(0.0, 0.0), (123_456.0, 123_000.0), (0.009_996, 0.01)] {
            assert_eq!(significant(value, 3), rounded);
        }
    }

    #[test]
    fn numbers_to_read() {
        for (value, text) in [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (1.234, "1.23"),
            (9.999, "10.0"),
            (45.67, "45.7"),
            (99.96, "100"),
            (123.4, "123"),
            (12_345.0, "12,300"),
            (1_234_567.0, "1,230,000"),
        ] {
            assert_eq!(rounded(value), text);
        }
        assert_eq!(grouped(-1234), "-1,234");
        assert_eq!(grouped(100), "100");
    }
}
