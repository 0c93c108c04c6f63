//! `kes metric`: the counters of a server, again and again (`cli` §5.9).

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{
    FLAGS, Session, live,
    settings::duration,
    status::{size, uptime},
};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        table::{Command, Takes, flag},
        term::{self, Paint},
    },
    crypto::SecretBytes,
    text::json::Object,
};

const DEFAULT_RATE: Duration = Duration::from_secs(5);

/// What is always told, and is absent from a server's metrics until its first sample.
const REQUESTS: [&str; 3] =
    ["kes_http_request_success", "kes_http_request_error", "kes_http_request_failure"];

/// `kes metric`.
pub static METRIC: Command = Command {
    name: "metric",
    summary: "Show the metrics of a server.",
    about: "Shows how a server is used, again and again until it is ended by Ctrl-C: as a table on a terminal, as one line\n\
            of JSON each time otherwise.\n",
    flags: &[
        flag("rate", Takes::Value("DURATION"), "Ask the server so often (default: 5s)."),
        flag("once", Takes::Nothing, "Ask once and exit."),
        flag("prometheus", Takes::Nothing, "Print the metrics as they come, for Prometheus."),
    ],
    common: FLAGS,
    examples: &["kes metric", "kes metric --once --json", "kes metric --once --prometheus"],
    run,
    ..Command::GROUP
};

/// How the metrics are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Table,
    Json,
    Prometheus,
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    let paint = Paint::new(args)?;
    let form = match (args.is_on("prometheus"), args.is_on("json")) {
        (true, true) => return Err(args.mistake("--prometheus cannot be used with --json")),
        (true, false) => Form::Prometheus,
        (false, true) => Form::Json,
        (false, false) if term::is_terminal() => Form::Table,
        (false, false) => Form::Json,
    };
    let rate = match args.text("rate")? {
        None => DEFAULT_RATE,
        Some(text) => match duration(args, "rate", text)? {
            Duration::ZERO => return Err(args.invalid("rate", text.as_ref(), "it must be longer")),
            rate => rate,
        },
    };
    let mut view = View { session: Session::new(args)?, form, paint, last: None };
    if args.is_on("once") {
        let page = view.scrape()?;
        view.print(&page, args.is_on("json"))?;
        return Ok(ExitCode::SUCCESS);
    }
    live::run(form == Form::Table, move |screen| view.repeat(screen, rate))
}

/// What is shown, and what was last seen.
struct View {
    session: Session,
    form: Form,
    paint: Paint,
    /// When the last metrics came, and how many requests had been answered.
    last: Option<(Instant, f64)>,
}

impl View {
    /// Asks and shows without end. A failure at the beginning is final; later ones are told, and may pass.
    fn repeat(&mut self, screen: &live::Screen, rate: Duration) -> Result<(), Failure> {
        let mut page = self.scrape()?;
        let mut next = Instant::now();
        loop {
            match self.form {
                Form::Table => screen.draw(&String::from_utf8_lossy(&page))?,
                _ => self.print(&page, false)?,
            }
            next = (next + rate).max(Instant::now());
            while screen.wait(next.saturating_duration_since(Instant::now())) {
                if self.form == Form::Table {
                    screen.draw(&String::from_utf8_lossy(&page))?;
                }
            }
            while let Err(failure) = self.scrape().map(|new| page = new) {
                let Failure::Message { text, hint } = failure else { return Err(failure) };
                match self.form {
                    Form::Table => {
                        let error = self.paint.bad("Error: ");
                        screen.draw(&format!("{}\n{error}{text}\n", String::from_utf8_lossy(&page)))?;
                    }
                    _ => term::print_error(&text, hint.as_deref()),
                }
                screen.wait(rate);
            }
        }
    }

    fn print(&self, page: &SecretBytes, may_indent: bool) -> Result<(), Failure> {
        match self.form {
            Form::Json if may_indent => output::json(page),
            Form::Json => output::json_line(page),
            Form::Table | Form::Prometheus => term::print_bytes(page),
        }
    }

    /// The next page.
    fn scrape(&mut self) -> Result<SecretBytes, Failure> {
        let answer = self.session.get("/v1/metrics").map_err(|error| self.session.failure(error))?;
        let text = std::str::from_utf8(&answer.body)
            .map_err(|_| Failure::new("the server's metrics are not valid UTF-8"))?;
        Ok(match self.form {
            Form::Prometheus => answer.body,
            Form::Json => Sample::parse(text).json(),
            Form::Table => SecretBytes::from(self.table(&answer.from, &Sample::parse(text)).into_bytes()),
        })
    }

    fn table(&mut self, from: &str, sample: &Sample) -> String {
        let value = |name: &str| sample.values.get(name).copied().unwrap_or(0.0);
        let [ok, errors, failures] = REQUESTS.map(value);
        let (all, now) = (ok + errors + failures, Instant::now());
        let share = |part: f64| {
            let percent = if all > 0.0 { part * 100.0 / all } else { 0.0 };
            format!("{} {}%", whole(part), tenths(percent))
        };
        let rate = self.last.map_or(0.0, |(then, before)| {
            (all - before).max(0.0) / now.duration_since(then).as_secs_f64().max(0.001)
        });
        self.last = Some((now, all));
        let count = value("kes_http_response_time_count");
        let latency = if count > 0.0 { value("kes_http_response_time_sum") * 1_000.0 / count } else { 0.0 };
        let paint = self.paint;
        let heading = |cells: [&str; 6]| paint.heading(&row(cells));
        let bytes = |name: &str| size(value(name) as u64);
        [
            format!("{} {}", paint.good("●"), term::visible(from)),
            String::new(),
            heading(["Request", "OK [2xx]", "Err [4xx]", "Err [5xx]", "Req/s", "Latency"]),
            row([
                "",
                &share(ok),
                &share(errors),
                &share(failures),
                &tenths(rate),
                &[&tenths(latency), "ms"].concat(),
            ]),
            String::new(),
            heading(["System", "UpTime", "Heap", "Stack", "CPUs", "Threads"]),
            row([
                "",
                &uptime(value("kes_system_up_time") as u64),
                &bytes("kes_system_mem_heap_used"),
                &bytes("kes_system_mem_stack_used"),
                &whole(value("kes_system_num_cpu_used")),
                &whole(value("kes_system_num_threads")),
            ]),
        ]
        .map(|line| line + "\n")
        .concat()
    }
}

/// A row of the table.
fn row(cells: [&str; 6]) -> String {
    let mut line: String = cells.iter().map(|cell| format!("{cell:<16}")).collect();
    line.truncate(line.trim_end().len());
    line
}

fn whole(value: f64) -> String {
    format!("{}", value as u64)
}

/// With one digit after the point.
fn tenths(value: f64) -> String {
    let tenths = (value * 10.0).round() as u64;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The metrics of one moment.
#[derive(Debug, Default)]
struct Sample {
    /// By name; those that differ in their labels only are added up.
    values: BTreeMap<String, f64>,
    /// Histograms by name: how many samples are at most so many nanoseconds.
    buckets: BTreeMap<String, Vec<(u64, f64)>>,
}

impl Sample {
    /// Reads the text format 0.0.4. Lines that are none are passed over.
    fn parse(text: &str) -> Self {
        let mut sample = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let bound = labels.strip_prefix("le=\"").and_then(|rest| rest.split('"').next());
            match (name.strip_suffix("_bucket"), bound.map(str::parse::<f64>)) {
                (Some(histogram), Some(Ok(bound))) => {
                    let buckets = sample.buckets.entry(histogram.to_owned()).or_default();
                    // What is above the last bound is in the count alone.
                    if bound.is_finite() {
                        buckets.push(((bound * 1e9).round() as u64, value));
                    }
                }
                _ => *sample.values.entry(name.to_owned()).or_default() += value,
            }
        }
        sample
    }

    /// One object, the uptime in nanoseconds.
    fn json(&self) -> SecretBytes {
        let mut object = Object::new(4096);
        for name in REQUESTS.iter().filter(|name| !self.values.contains_key(**name)) {
            object = object.raw(name, b"0");
        }
        for (name, value) in &self.values {
            let value = if name == "kes_system_up_time" { (value * 1e9).round() } else { *value };
            object = object.raw(name, json_number(value).as_bytes());
        }
        for (name, buckets) in &self.buckets {
            let inner = buckets.iter().fold(Object::new(256), |inner, (bound, count)| {
                inner.raw(&bound.to_string(), json_number(*count).as_bytes())
            });
            object = object.raw(name, &inner.end());
        }
        object.end()
    }
}

/// JSON knows no infinity and no NaN.
fn json_number(value: f64) -> String {
    if !value.is_finite() {
        "null".to_owned()
    } else if value.fract() == 0.0 && value.abs() < 9e15 {
        format!("{}", value as i64)
    } else {
        format!("{value}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_format_becomes_one_object() {
        let text = "# HELP kes_a x\n# TYPE kes_http_request_error counter\n\
            kes_http_request_error{code=\"403\"} 2\nkes_http_request_error{code=\"404\"} 3\n\
            kes_system_up_time 1.5\nkes_system_mem_heap_used 5.01572e+06\n\
            kes_http_response_time_bucket{le=\"0.01\"} 4\nkes_http_response_time_bucket{le=\"+Inf\"} 5\n\
            kes_http_response_time_sum 0.25\nkes_http_response_time_count 5\n";
        let value: serde_json::Value = serde_json::from_slice(&Sample::parse(text).json()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "kes_http_request_success": 0, "kes_http_request_failure": 0, "kes_http_request_error": 5,
                "kes_system_up_time": 1_500_000_000, "kes_system_mem_heap_used": 5_015_720,
                "kes_http_response_time": { "10000000": 4 },
                "kes_http_response_time_sum": 0.25, "kes_http_response_time_count": 5,
            })
        );
    }

    proptest! {
        #[test]
        fn whatever_the_server_says_the_output_is_json(text in "([a-z_]{1,9}|\\{le=\"[0-9.e+Inf]{0,6}\"\\}| |[0-9.e+-]{1,6}|NaN|Inf|\n){0,40}") {
            let json = Sample::parse(&text).json();
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
        }
    }
}
