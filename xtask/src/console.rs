//! What a console said, by `docs/console-protocol.md`.

use std::collections::BTreeMap;

/// One line: who said it, if it came through the hypervisor, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub who: Option<&'a str>,
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// Splits the `[name] ` off.
    pub fn of(line: &'a str) -> Self {
        let split = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        match split {
            Some((who, text)) if !who.is_empty() && !who.contains(' ') => Self { who: Some(who), text },
            _ => Self { who: None, text: line },
        }
    }

    /// What the line says to tools, if anything.
    pub fn said(self) -> Option<Said> {
        if let Some(fields) = self.text.strip_prefix("@result ") {
            let mut fields = Fields::of(fields);
            let workload = fields.take("workload")?;
            let verified = fields.take("verified")? == "yes";
            let unit = fields.take("unit").unwrap_or_default();
            let metric = fields.take("metric").unwrap_or_default();
            let figure = fields.0.get(metric.as_str()).and_then(|value| value.parse().ok());
            Some(Said::Result(Outcome { workload, verified, metric, unit, figure }))
        } else if let Some(fields) = self.text.strip_prefix("@bench ") {
            let mut fields = Fields::of(fields);
            Some(Said::Bench {
                path: fields.take("path")?,
                instructions: fields.take("instructions")?.parse().ok()?,
            })
        } else if let Some(fields) = self.text.strip_prefix("@exit ") {
            Some(Said::Exit(Fields::of(fields).take("status")?.parse().ok()?))
        } else {
            None
        }
    }
}

/// A line that tools rely on.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Result(Outcome),
    Bench { path: String, instructions: f64 },
    Exit(i64),
}

/// One workload has run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub workload: String,
    pub verified: bool,
    pub metric: String,
    pub unit: String,
    /// The value of the main figure.
    pub figure: Option<f64>,
}

/// `key=value` pairs.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn of(text: &'a str) -> Self {
        Self(text.split_whitespace().filter_map(|pair| pair.split_once('=')).collect())
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key).map(str::to_owned)
    }
}

/// The last `@exit status=` that the kernel in charge said.
pub fn exit_status(lines: &[String]) -> Option<i64> {
    lines.iter().rev().find_map(|line| match Line::of(line).said() {
        Some(Said::Exit(status)) => Some(status),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_identify_the_speaker() {
        assert_eq!(Line::of("[hv] fatal: x"), Line { who: Some("hv"), text: "fatal: x" });
        assert_eq!(Line::of("plain"), Line { who: None, text: "plain" });
        assert_eq!(Line::of("[    0.1] linux"), Line { who: None, text: "[    0.1] linux" });
        assert_eq!(Line::of("[] x").who, None);
    }

    #[test]
    fn results_have_a_main_figure() {
        let line =
            Line::of("[one] @result workload=stream verified=yes triad=12.5 copy=9 metric=triad unit=MB/s");
        let Some(Said::Result(outcome)) = line.said() else { panic!("not a result") };
        assert_eq!(
            (outcome.workload.as_str(), outcome.verified, outcome.figure),
            ("stream", true, Some(12.5))
        );
        assert_eq!(outcome.unit, "MB/s");
        let Some(Said::Result(outcome)) = Line::of("@result workload=x verified=no").said() else { panic!() };
        assert!(!outcome.verified && outcome.figure.is_none());
    }

    #[test]
    fn the_other_lines_are_understood_or_ignored() {
        let bench = Line::of("@bench path=a-b instructions=12").said();
        assert_eq!(bench, Some(Said::Bench { path: "a-b".into(), instructions: 12.0 }));
        assert_eq!(Line::of("@bench path=a instructions=many").said(), None);
        assert_eq!(Line::of("say @exit status=0").said(), None);
        let lines = ["[one] @exit status=1", "[sched] @exit status=0", "bye"].map(str::to_owned);
        assert_eq!(exit_status(&lines), Some(0));
    }
}
