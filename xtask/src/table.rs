//! Tables for people.

/// `rows` under `head`, columns aligned: the first to the left, figures (what starts with a digit) to the
/// right.
pub fn render(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let right = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).filter(|cell| *cell != "-").peekable();
        cells.peek().is_some() && cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '+'))
    };
    let mut out = String::new();
    let mut line = |cells: &[String]| {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            let padded = if right(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            text += &padded;
            text += "  ";
        }
        out += text.trim_end();
        out.push('\n');
    };
    line(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>());
    for row in rows {
        line(row);
    }
    out
}

/// A figure with about four significant digits.
pub fn figure(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 1000.0 || v.fract() == 0.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        v if v >= 0.1 => 3,
        _ => 6,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["stream".into(), "12".into()], vec!["x".into(), "1234".into()]];
        assert_eq!(render(&["name", "n"], &rows), "name       n\n------  ----\nstream    12\nx       1234\n");
    }

    #[test]
    fn figures_have_few_digits() {
        assert_eq!(
            [1234.56, 120.04, 0.97531, 3.0, 0.00012].map(figure),
            ["1235", "120.0", "0.975", "3", "0.000120"]
        );
    }
}
