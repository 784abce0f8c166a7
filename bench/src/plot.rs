//! Bars as SVG.

use std::fmt::Write;

use crate::statistics::{Summary, rounded};
use crate::{BARE, MERGING, NCHAN, OURS};

/// Bars under one title, which share a scale.
pub(crate) struct Group {
    pub(crate) title: String,
    /// Names and values.
    pub(crate) bars: Vec<(String, Summary)>,
}

const WIDTH: u32 = 900;
/// Where bars begin and how long they are at most.
const LEFT: u32 = 170;
const LENGTH: u32 = 620;
const BAR: u32 = 14;
const TITLE: u32 = 24;
const GAP: u32 = 12;

fn colour(name: &str) -> &'static str {
    match name {
        OURS => "#1f6feb",
        NCHAN => "#d97706",
        BARE => "#6b7280",
        MERGING => "#9ca3af",
        "p50" => "#93c5fd",
        "p99" => "#3b82f6",
        "p99.9" => "#1e40af",
        _ => "#7c3aed",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A chart of horizontal bars. A thin line shows the least and the greatest value.
pub(crate) fn bars(title: &str, groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = 40 + groups.len() as u32 * (TITLE + GAP) + rows as u32 * BAR;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>",
        escaped(title)
    );
    let mut y = 40;
    for group in groups {
        let most = group.bars.iter().map(|(_, value)| value.most).fold(0.0, f64::max);
        let scale = if most > 0.0 { f64::from(LENGTH) / most } else { 0.0 };
        y += TITLE;
        let _ = writeln!(
            svg,
            "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{}</text>",
            y - 8,
            escaped(&group.title)
        );
        for (name, value) in &group.bars {
            let (length, middle) = (value.median * scale, y + BAR / 2);
            let (from, to) = (value.least * scale, value.most * scale);
            let left = f64::from(LEFT);
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{}\"/>\
                 <line x1=\"{:.1}\" y1=\"{middle}\" x2=\"{:.1}\" y2=\"{middle}\" \
                 stroke=\"black\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{}</text>",
                LEFT - 6,
                y + BAR - 4,
                escaped(name),
                y + 1,
                BAR - 2,
                colour(name),
                left + from,
                left + to,
                left + length.max(to) + 5.0,
                y + BAR - 4,
                rounded(value.median)
            );
            y += BAR;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart() {
        let value = Summary { median: 2.0, least: 1.0, most: 4.0 };
        let group = Group { title: "a < b".into(), bars: vec![("ours".into(), value)] };
        let svg = bars("CPU", &[group]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b") && svg.contains("width=\"310.0\""));
        assert!(svg.contains("x1=\"325.0\"") && svg.contains("x2=\"790.0\""));
    }
}
