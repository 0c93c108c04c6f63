//! Counters of what the server does, and their text form for Prometheus (`server-api` §7.4, text format 0.0.4).

use std::{
    fmt::Write,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Value of `Content-Type` for [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Upper bounds of the histogram's buckets in milliseconds.
const BUCKETS: [u64; 10] = [10, 50, 100, 250, 500, 1_000, 1_500, 3_000, 5_000, 10_000];

/// Status codes that the API answers with; one counter each.
const CODES: [u16; 14] = [200, 307, 400, 403, 404, 405, 406, 409, 500, 501, 502, 503, 504, 505];

/// All counters. They survive a reload.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    by_code: [AtomicU64; CODES.len()],
    active: AtomicI64,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    total_nanos: AtomicU64,
}

impl Metrics {
    /// All at zero; the uptime counts from now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            by_code: Default::default(),
            active: AtomicI64::new(0),
            buckets: Default::default(),
            total_nanos: AtomicU64::new(0),
        }
    }

    /// How long the server has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A request has reached its handler.
    pub fn begin(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered with `status` after `time`.
    pub fn end(&self, status: u16, time: Duration) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = CODES.iter().position(|code| *code == status) {
            self.by_code[place].fetch_add(1, Ordering::Relaxed);
        }
        let millis = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).div_ceil(1_000);
        let bucket = BUCKETS.iter().position(|bound| millis <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.total_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// All metrics as text, sorted by name.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(4096);
        let memory = Memory::now();
        gauge(
            &mut text,
            "kes_http_request_active",
            "Number of active requests that are not finished, yet.",
            self.active.load(Ordering::Relaxed) as f64,
        );
        self.family(
            &mut text,
            "kes_http_request_error",
            "Number of request that failed due to some error. (HTTP 4xx status code)",
            4,
        );
        self.family(
            &mut text,
            "kes_http_request_failure",
            "Number of request that failed due to some internal failure. (HTTP 5xx status code)",
            5,
        );
        self.family(
            &mut text,
            "kes_http_request_success",
            "Number of requests that have been served successfully.",
            2,
        );
        self.histogram(&mut text);
        let zero = [
            ("kes_log_audit_events", "Number of audit log events written to the audit log targets."),
            ("kes_log_error_events", "Number of error log events written to the error log targets."),
        ];
        for (name, help) in zero {
            head(&mut text, name, help, "counter");
            let _ = writeln!(text, "{name} 0");
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let system = [
            (
                "mem_heap_objects",
                "The number of objects that are currently allocated on the heap memory.",
                0.0,
            ),
            (
                "mem_heap_used",
                "The number of bytes that are currently allocated on the heap memory.",
                memory.heap as f64,
            ),
            ("mem_stack_used", "The bytes of stack memory obtained from the OS.", memory.stack as f64),
            (
                "num_cpu",
                "The number of logical CPUs available on the system. It may be larger than the number of usable CPUs.",
                cores,
            ),
            (
                "num_cpu_used",
                "The number of logical CPUs usable by the server. It may be smaller than the number of available CPUs.",
                cores,
            ),
            (
                "num_threads",
                "The number of concurrent co-routines/threads that currently exists.",
                memory.threads as f64,
            ),
            (
                "up_time",
                "The time the server has been up and running in seconds.",
                (self.uptime().as_millis() / 10) as f64 / 100.0,
            ),
        ];
        for (name, help, value) in system {
            gauge(&mut text, &format!("kes_system_{name}"), help, value);
        }
        text
    }

    /// One counter family by status code; absent until it has a sample.
    fn family(&self, text: &mut String, name: &str, help: &str, class: u16) {
        let samples = CODES.iter().zip(&self.by_code).filter(|(code, _)| **code / 100 == class);
        let samples: Vec<_> = samples
            .map(|(code, count)| (code, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        if samples.is_empty() {
            return;
        }
        head(text, name, help, "counter");
        for (code, count) in samples {
            let _ = writeln!(text, "{name}{{code=\"{code}\"}} {}", number(count as f64));
        }
    }

    fn histogram(&self, text: &mut String) {
        const NAME: &str = "kes_http_response_time";
        head(text, NAME, "Histogram of request response times spawning from 10ms to 10s.", "histogram");
        let mut total = 0;
        for (place, count) in self.buckets.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = BUCKETS.get(place).map_or("+Inf".into(), |bound| number(*bound as f64 / 1_000.0));
            let _ = writeln!(text, "{NAME}_bucket{{le=\"{bound}\"}} {}", number(total as f64));
        }
        let _ =
            writeln!(text, "{NAME}_sum {}", number(self.total_nanos.load(Ordering::Relaxed) as f64 / 1e9));
        let _ = writeln!(text, "{NAME}_count {}", number(total as f64));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What the kernel says of the process's memory, in bytes; zero where it says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Private data in use.
    pub heap: u64,
    /// The main thread's stack.
    pub stack: u64,
    /// Threads.
    pub threads: u64,
}

impl Memory {
    /// As of now.
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            heap: value("RssAnon:").unwrap_or(0) * 1024,
            stack: value("VmStk:").unwrap_or(0) * 1024,
            threads: value("Threads:").unwrap_or(0),
        }
    }
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    head(text, name, help, "gauge");
    let _ = writeln!(text, "{name} {}", number(value));
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A number as Go's `strconv` writes it in its shortest 'g' form: `458752`, `5.01572e+06`.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-4..1e6).contains(&magnitude) { format!("{value}") } else { exponential(value) }
}

fn exponential(value: f64) -> String {
    let text = format!("{value:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_gos_form() {
        for (value, text) in [
            (0.0, "0"),
            (458_752.0, "458752"),
            (5_015_720.0, "5.01572e+06"),
            (0.05, "0.05"),
            (1.5, "1.5"),
            (0.00001, "1e-05"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn families_by_code_are_absent_until_their_first_sample() {
        let metrics = Metrics::new();
        assert!(!metrics.text().contains("request_success"));
        metrics.begin();
        metrics.end(200, Duration::from_millis(11));
        metrics.begin();
        metrics.end(404, Duration::from_secs(20));
        let text = metrics.text();
        assert!(text.contains("kes_http_request_success{code=\"200\"} 1\n"));
        assert!(text.contains("kes_http_request_error{code=\"404\"} 1\n"));
        assert!(!text.contains("request_failure"));
        assert!(text.contains("kes_http_response_time_bucket{le=\"0.01\"} 0\n"));
        assert!(text.contains("kes_http_response_time_bucket{le=\"0.05\"} 1\n"));
        assert!(text.contains("kes_http_response_time_bucket{le=\"+Inf\"} 2\n"));
        assert!(text.contains("kes_http_request_active 0\n"));
    }
}
