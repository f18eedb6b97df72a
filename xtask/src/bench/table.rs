//! Figures as people read them.

use std::fmt::Write as _;

use crate::bench::Figure;

const HEAD: [&str; 5] = ["", "figure", "floor", "ratio", "target"];

/// A table of all figures, and below it what must be known about each.
pub(crate) fn show(figures: &[Figure]) -> String {
    let rows: Vec<[String; 5]> = figures.iter().map(row).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in std::iter::once(HEAD.map(str::to_owned)).chain(rows) {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            // Words on the left of their column, numbers on the right.
            if column == 0 || column == 4 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("\nThe ratio is how many times the floor it takes; the floor was measured in the same run.\n");
    for figure in figures {
        writeln!(text, "- {}: {}.", figure.what, figure.note)
            .expect("writing into memory cannot fail");
    }
    text
}

fn row(figure: &Figure) -> [String; 5] {
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        figure.what.clone(),
        format!("{} {}", number(figure.found), figure.unit),
        or_none(figure.floor.map(|floor| format!("{} {}", number(floor), figure.unit))),
        or_none(figure.ratio.map(|ratio| format!("{ratio:.2}"))),
        or_none(figure.target.clone()),
    ]
}

/// Three digits that mean something, or all before the point.
fn number(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_figure_and_its_note() {
        let figure = Figure {
            name: "planning".to_owned(),
            what: "plan".to_owned(),
            unit: "s".to_owned(),
            found: 0.4187,
            floor: Some(0.0478),
            ratio: Some(8.753),
            target: None,
            note: "of 10000 nodes".to_owned(),
        };
        let text = show(&[figure]);
        assert!(text.contains("plan  0.4187 s  0.0478 s   8.75  -\n"), "{text}");
        assert!(text.contains("- plan: of 10000 nodes.\n"), "{text}");
    }

    #[test]
    fn numbers_keep_the_digits_that_mean_something() {
        let shown = [553_389.8, 53.04, 1.3006, 0.0795].map(number);
        assert_eq!(shown, ["553390", "53.0", "1.30", "0.0795"]);
    }
}
