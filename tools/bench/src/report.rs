//! Rows of figures: medians of several runs, as a table, and as one JSON object per line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// One row: what was measured, and its figures by name. A figure's name ends with its unit.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// What was measured.
    pub case: String,
    figures: Vec<(&'static str, f64)>,
}

impl Row {
    /// A row without figures.
    pub fn new(case: impl Into<String>) -> Self {
        Self {
            case: case.into(),
            figures: Vec::new(),
        }
    }

    /// Adds a figure.
    pub fn with(mut self, name: &'static str, value: f64) -> Self {
        self.figures.push((name, value));
        self
    }

    /// A figure.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures
            .iter()
            .find(|(own, _)| *own == name)
            .map(|(_, value)| *value)
    }
}

/// The 50th, 99th and 99.9th percentile, and the largest.
pub fn percentiles(mut values: Vec<f64>) -> [f64; 4] {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (values.len() as f64 * share) as usize;
        values
            .get(place.min(values.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    };
    [at(0.5), at(0.99), at(0.999), at(1.0)]
}

/// All rows of one call.
pub struct Report {
    runs: usize,
    json: Option<File>,
    rows: Vec<Row>,
}

impl Report {
    /// An empty one.
    pub fn new(json: Option<&Path>, runs: usize) -> Result<Self> {
        let open = |path: &Path| {
            File::create(path).with_context(|| format!("{} cannot be written", path.display()))
        };
        Ok(Self {
            runs: runs.max(1),
            json: json.map(open).transpose()?,
            rows: Vec::new(),
        })
    }

    /// How often each row is to be measured.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// Adds the medians of several measurements of one row.
    pub fn add(&mut self, rows: &[Row]) -> Result<Row> {
        let mut all: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for (name, value) in rows.iter().flat_map(|row| &row.figures) {
            all.entry(name).or_default().push(*value);
        }
        let mut median = Row::new(rows.first().map(|row| row.case.clone()).unwrap_or_default());
        for (name, _) in rows
            .first()
            .map(|row| row.figures.as_slice())
            .unwrap_or_default()
        {
            let values = all.remove(name).unwrap_or_default();
            median.figures.push((name, percentiles(values)[0]));
        }
        self.push(median.clone())?;
        Ok(median)
    }

    /// Adds a row as it is.
    pub fn push(&mut self, row: Row) -> Result<()> {
        if let Some(file) = &mut self.json {
            let figures: serde_json::Map<String, Value> = row
                .figures
                .iter()
                .map(|(name, value)| ((*name).into(), json!(value)))
                .collect();
            let line =
                json!({ "version": 1, "case": row.case, "runs": self.runs, "figures": figures });
            writeln!(file, "{line}")?;
        }
        eprintln!("measured: {}", row.case);
        self.rows.push(row);
        Ok(())
    }

    /// Prints the table: a block for each set of columns.
    pub fn show(&self) {
        let mut columns: Vec<&'static str> = Vec::new();
        for row in &self.rows {
            let own: Vec<_> = row.figures.iter().map(|(name, _)| *name).collect();
            if own != columns {
                columns = own;
                println!("\n| case | {} |", columns.join(" | "));
                println!("| --- |{}", " ---: |".repeat(columns.len()));
            }
            let figures: Vec<_> = row.figures.iter().map(|(_, value)| shown(*value)).collect();
            println!("| {} | {} |", row.case, figures.join(" | "));
        }
    }
}

fn shown(value: f64) -> String {
    match value.abs() {
        // There is no such figure.
        size if size.is_nan() => String::new(),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_holds_medians() {
        let rows = [3.0, 1.0, 2.0].map(|value| Row::new("x").with("a s", value));
        let mut report = Report::new(None, 3).expect("no file");
        assert_eq!(report.add(&rows).expect("no file").get("a s"), Some(2.0));
        let [p50, p99, _, most] = percentiles((0..1000).map(f64::from).collect());
        assert_eq!((p50, p99, most), (500.0, 990.0, 999.0));
    }
}
