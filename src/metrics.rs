//! Counters of what the server does, and their text form for Prometheus (`server-api` §7.4, text format 0.0.4).
//!
//! Clients of the protocol demand that each family has exactly one metric, but for the three by status code. So what
//! other programs put into labels has a name of its own here.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{console, feed::Feed};

/// Value of `Content-Type` for [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Status codes that the API answers with; one counter each.
const CODES: [u16; 14] = [200, 307, 400, 403, 404, 405, 406, 409, 500, 501, 502, 503, 504, 505];

/// Upper bounds of response times, in microseconds.
const RESPONSE_BOUNDS: [u64; 10] =
    [10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 1_500_000, 3_000_000, 5_000_000, 10_000_000];

/// Upper bounds of what the key store takes, in microseconds.
const STORE_BOUNDS: [u64; 10] =
    [100, 500, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000];

/// Something that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add(&self) {
        self.add_all(1);
    }

    /// Adds `count`.
    pub fn add_all(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64
    }
}

/// Something that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to it, or takes from it.
    pub fn change(&self, by: i64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64
    }
}

/// How long something took, in buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64; 10],
    buckets: [AtomicU64; 11],
    nanos: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64; 10]) -> Self {
        Self { bounds, buckets: Default::default(), nanos: AtomicU64::new(0) }
    }

    /// Adds one sample.
    pub fn observe(&self, time: Duration) {
        let micros = u64::try_from(time.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|bound| micros <= *bound).unwrap_or(self.bounds.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What is counted of keys and their store. It outlives a keyring, which is made anew at a reload.
#[derive(Debug)]
pub struct StoreMetrics {
    /// Keys that were found in memory.
    pub hits: Counter,
    /// Keys that had to be read from the store.
    pub misses: Counter,
    /// Calls of the store.
    pub latency: Histogram,
    /// Calls of the store that failed, apart from keys that exist or do not.
    pub errors: Counter,
    /// 1 while the store does not answer.
    pub offline: Gauge,
    /// 1 if keys are sealed.
    pub sealed: Gauge,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            hits: Counter::default(),
            misses: Counter::default(),
            latency: Histogram::new(&STORE_BOUNDS),
            errors: Counter::default(),
            offline: Gauge::default(),
            sealed: Gauge::default(),
        }
    }
}

/// What is counted of connections.
#[derive(Debug, Default)]
pub struct NetMetrics {
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Open connections.
    pub open: Gauge,
    /// Handshakes in full.
    pub full_handshakes: Counter,
    /// Handshakes that went on with a former session.
    pub resumed_handshakes: Counter,
    /// Handshakes that failed or were refused.
    pub failed_handshakes: Counter,
    /// Open streams of HTTP/2.
    pub open_streams: Gauge,
    /// All streams of HTTP/2.
    pub streams: Counter,
    /// Jobs that wait for a thread that may block.
    pub queued: Gauge,
}

/// All counters. They survive a reload.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    by_code: [Counter; CODES.len()],
    active: Gauge,
    abandoned: Counter,
    response_time: Histogram,
    /// Keys and their store.
    pub store: Arc<StoreMetrics>,
    /// Connections.
    pub net: Arc<NetMetrics>,
    /// Panics in handlers.
    pub panics: Counter,
    /// Reloads that were done.
    pub reloads: Counter,
    /// Reloads that were refused.
    pub failed_reloads: Counter,
    /// End of the server certificate's validity, in seconds since 1970.
    pub certificate_expiry: Gauge,
}

impl Metrics {
    /// All at zero; the uptime counts from now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            by_code: Default::default(),
            active: Gauge::default(),
            abandoned: Counter::default(),
            response_time: Histogram::new(&RESPONSE_BOUNDS),
            store: Arc::default(),
            net: Arc::default(),
            panics: Counter::default(),
            reloads: Counter::default(),
            failed_reloads: Counter::default(),
            certificate_expiry: Gauge::default(),
        }
    }

    /// How long the server has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// A request has reached its handler.
    pub fn begin(&self) {
        self.active.change(1);
    }

    /// A request was answered with `status` after `time`.
    pub fn end(&self, status: u16, time: Duration) {
        self.active.change(-1);
        if let Some(place) = CODES.iter().position(|code| *code == status) {
            self.by_code[place].add();
        }
        self.response_time.observe(time);
    }

    /// Nobody waits for the answer of a request any more, so that it has none.
    pub fn abandon(&self) {
        self.active.change(-1);
        self.abandoned.add();
    }

    /// All metrics as text, sorted by name. `audit` and `error` are the feeds of the two logs.
    pub fn text(&self, audit: &Feed, error: &Feed) -> String {
        let memory = Memory::now();
        let cores = crate::sys::process::cores() as f64;
        let (net, store) = (&self.net, &self.store);
        let lost = |feed: &Feed| feed.lost().load(Ordering::Relaxed) as f64;
        let mut page = Page(String::with_capacity(16 << 10));
        page.counter("cache_hits_total", "Number of keys that were found in memory.", store.hits.get());
        page.counter(
            "cache_misses_total",
            "Number of keys that were not in memory and were asked of the key store.",
            store.misses.get(),
        );
        page.counter("connections_accepted_total", "Number of accepted connections.", net.accepted.get());
        page.gauge("connections_open", "Number of open connections.", net.open.get());
        page.gauge("http2_streams_open", "Number of open HTTP/2 streams.", net.open_streams.get());
        page.counter("http2_streams_total", "Number of HTTP/2 streams so far.", net.streams.get());
        page.counter(
            "http_request_abandoned_total",
            "Number of requests whose client was gone before they were worked on.",
            self.abandoned.get(),
        );
        page.gauge(
            "http_request_active",
            "Number of active requests that are not finished, yet.",
            self.active.get(),
        );
        let classes = [
            ("error", "Number of request that failed due to some error. (HTTP 4xx status code)", 4),
            (
                "failure",
                "Number of request that failed due to some internal failure. (HTTP 5xx status code)",
                5,
            ),
            ("success", "Number of requests that have been served successfully.", 2),
        ];
        for (name, help, class) in classes {
            self.family(&mut page, &format!("http_request_{name}"), help, class);
        }
        page.histogram(
            "http_response_time",
            "Histogram of request response times spawning from 10ms to 10s.",
            &self.response_time,
        );
        page.gauge(
            "jobs_queued",
            "Number of jobs that wait for a thread that may use the key store.",
            net.queued.get(),
        );
        page.counter(
            "keystore_errors_total",
            "Number of calls of the key store that failed.",
            store.errors.get(),
        );
        page.histogram(
            "keystore_latency_seconds",
            "Histogram of the time that calls of the key store took.",
            &store.latency,
        );
        page.gauge(
            "keystore_offline",
            "Whether the key store did not answer when it was last asked.",
            store.offline.get(),
        );
        page.gauge(
            "keystore_sealed",
            "Whether keys are encrypted before they are stored.",
            store.sealed.get(),
        );
        page.counter(
            "log_audit_dropped_total",
            "Number of audit log events that a slow reader of the stream has lost.",
            lost(audit),
        );
        page.counter(
            "log_audit_events",
            "Number of audit log events written to the audit log targets.",
            audit.told() as f64,
        );
        page.gauge(
            "log_audit_readers",
            "Number of readers of the audit log stream.",
            audit.listening() as f64,
        );
        page.counter(
            "log_error_dropped_total",
            "Number of error log events that a slow reader of the stream has lost.",
            lost(error),
        );
        page.counter(
            "log_error_events",
            "Number of error log events written to the error log targets.",
            error.told() as f64,
        );
        page.gauge(
            "log_error_readers",
            "Number of readers of the error log stream.",
            error.listening() as f64,
        );
        page.counter(
            "log_lines_dropped_total",
            "Number of lines for stdout or stderr that were lost because nobody read them.",
            console::lost() as f64,
        );
        page.counter("panics_total", "Number of requests whose handler panicked.", self.panics.get());
        page.counter(
            "reload_failures_total",
            "Number of reloads of the configuration that were refused.",
            self.failed_reloads.get(),
        );
        page.counter("reloads_total", "Number of reloads of the configuration.", self.reloads.get());
        page.gauge(
            "system_mem_heap_objects",
            "The number of objects that are currently allocated on the heap memory.",
            0.0,
        );
        page.gauge(
            "system_mem_heap_used",
            "The number of bytes that are currently allocated on the heap memory.",
            memory.heap as f64,
        );
        page.gauge(
            "system_mem_stack_used",
            "The bytes of stack memory obtained from the OS.",
            memory.stack as f64,
        );
        page.gauge(
            "system_num_cpu",
            "The number of logical CPUs available on the system. It may be larger than the number of usable CPUs.",
            cores,
        );
        page.gauge(
            "system_num_cpu_used",
            "The number of logical CPUs usable by the server. It may be smaller than the number of available CPUs.",
            cores,
        );
        page.gauge(
            "system_num_threads",
            "The number of concurrent co-routines/threads that currently exists.",
            memory.threads as f64,
        );
        page.gauge(
            "system_up_time",
            "The time the server has been up and running in seconds.",
            (self.uptime().as_millis() / 10) as f64 / 100.0,
        );
        page.gauge(
            "tls_certificate_expiry_timestamp_seconds",
            "The time at which the server certificate expires, in seconds since 1970.",
            self.certificate_expiry.get(),
        );
        page.counter(
            "tls_handshakes_failed_total",
            "Number of TLS handshakes that failed or were refused.",
            net.failed_handshakes.get(),
        );
        page.counter(
            "tls_handshakes_full_total",
            "Number of full TLS handshakes.",
            net.full_handshakes.get(),
        );
        page.counter(
            "tls_handshakes_resumed_total",
            "Number of TLS handshakes that resumed a session.",
            net.resumed_handshakes.get(),
        );
        page.0
    }

    /// One counter family by status code; absent until it has a sample.
    fn family(&self, page: &mut Page, name: &str, help: &str, class: u16) {
        let samples = CODES.iter().zip(&self.by_code).filter(|(code, _)| **code / 100 == class);
        let samples: Vec<_> =
            samples.map(|(code, count)| (code, count.get())).filter(|(_, count)| *count > 0.0).collect();
        if samples.is_empty() {
            return;
        }
        page.head(name, help, "counter");
        for (code, count) in samples {
            let _ = writeln!(page.0, "kes_{name}{{code=\"{code}\"}} {}", number(count));
        }
    }
}

/// The text in the making. Names are given without their `kes_`.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP kes_{name} {help}\n# TYPE kes_{name} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "counter");
        let _ = writeln!(self.0, "kes_{name} {}", number(value));
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "kes_{name} {}", number(value));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut total = 0;
        for (place, count) in histogram.buckets.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound =
                histogram.bounds.get(place).map_or("+Inf".into(), |bound| number(*bound as f64 / 1e6));
            let _ = writeln!(self.0, "kes_{name}_bucket{{le=\"{bound}\"}} {}", number(total as f64));
        }
        let seconds = histogram.nanos.load(Ordering::Relaxed) as f64 / 1e9;
        let _ = writeln!(self.0, "kes_{name}_sum {}", number(seconds));
        let _ = writeln!(self.0, "kes_{name}_count {}", number(total as f64));
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
        let status = crate::sys::process::status();
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
        let (metrics, feed) = (Metrics::new(), Feed::default());
        assert!(!metrics.text(&feed, &feed).contains("request_success"));
        metrics.begin();
        metrics.end(200, Duration::from_millis(11));
        metrics.begin();
        metrics.end(404, Duration::from_secs(20));
        let text = metrics.text(&feed, &feed);
        assert!(text.contains("kes_http_request_success{code=\"200\"} 1\n"));
        assert!(text.contains("kes_http_request_error{code=\"404\"} 1\n"));
        assert!(!text.contains("request_failure"));
        assert!(text.contains("kes_http_response_time_bucket{le=\"0.01\"} 0\n"));
        assert!(text.contains("kes_http_response_time_bucket{le=\"0.05\"} 1\n"));
        assert!(text.contains("kes_http_response_time_bucket{le=\"+Inf\"} 2\n"));
        assert!(text.contains("kes_http_request_active 0\n"));
    }

    #[test]
    fn families_are_sorted_and_all_but_those_by_code_have_one_metric() {
        let (metrics, feed) = (Metrics::new(), Feed::default());
        let text = metrics.text(&feed, &feed);
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert!(names.is_sorted(), "{names:?}");
        let plain = text.lines().filter(|line| !line.starts_with('#') && !line.contains('{'));
        let mut seen = std::collections::HashSet::new();
        assert!(plain.map(|line| line.split(' ').next()).all(|name| seen.insert(name)));
    }
}
