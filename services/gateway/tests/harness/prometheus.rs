//! Debian's Prometheus, and the expressions of the dashboards.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{DEADLINE, http::get};

/// A Prometheus of the test's own.
pub(crate) struct Prometheus {
    child: Child,
    url: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own thread may sleep")]
fn until_ready(address: &str, url: &str) {
    let end = std::time::Instant::now() + DEADLINE;
    while std::net::TcpStream::connect(address).is_err() || get(url, "/-/ready").status != 200 {
        assert!(std::time::Instant::now() < end, "Prometheus is not ready");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Prometheus {
    /// It scrapes these management listeners once a second, knows the rules of the repository, and keeps its data in `directory`.
    pub(crate) fn start(directory: &Path, listeners: &[&str]) -> Self {
        Self::start_with(directory, listeners, &[])
    }

    /// The same with these flags. With `--enable-feature=native-histograms` Debian's drops the classic buckets of each native histogram, which
    /// later ones need not.
    pub(crate) fn start_with(directory: &Path, listeners: &[&str], flags: &[&str]) -> Self {
        let targets: Vec<&str> = listeners.iter().filter_map(|url| url.strip_prefix("http://")).collect();
        let rules = fs::canonicalize(repository().join("deploy/prometheus/rules")).expect("the rules");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{}/*.yaml\"]\n\
             scrape_configs:\n  - job_name: signalbox\n    static_configs:\n      - targets: {targets:?}\n        \
             labels: {{cluster: test, namespace: signal}}\n",
            rules.display()
        );
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).expect("a configuration");
        let address = format!("127.0.0.1:{}", signalbox_test_support::free_port());
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is there (cargo xtask prepare)");
        let prometheus = Self { child, url: format!("http://{address}") };

        until_ready(&address, &prometheus.url);
        prometheus
    }

    /// The series that an expression had at any time of the last two minutes.
    pub(crate) fn series(&self, expression: &str) -> usize {
        // One number, so that the answer is short: this client knows no transfer encodings.
        let query = format!("count(count_over_time(({expression})[2m:1s]))");
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let response = get(&self.url, &format!("/api/v1/query?query={query}"));
        let answer: Value = serde_json::from_str(&response.body).expect("JSON");
        assert_eq!(answer["status"], "success", "{expression}: {}", response.body);
        let number = answer["data"]["result"][0]["value"][1].as_str();
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// Has `promtool check metrics` judge what a listener shows of its metrics.
pub(crate) fn check_metrics(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there (cargo xtask prepare)");
    let written = promtool.stdin.take().expect("piped").write_all(text.as_bytes());
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(written.is_ok() && output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The series of every recording rule, and where it stands.
pub(crate) fn recorded() -> Vec<(String, String)> {
    let file = repository().join("deploy/prometheus/rules/recording.yaml");
    let text = fs::read_to_string(file).expect("the rules");
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    names.map(|name| ("recording.yaml".to_owned(), name.to_owned())).collect()
}

/// Every expression of the dashboards, with values for Grafana's variables, and where it stands.
pub(crate) fn expressions() -> Vec<(String, String)> {
    let directory = repository().join("deploy/grafana/dashboards");
    let mut found = Vec::new();
    for file in fs::read_dir(directory).expect("the dashboards").map_while(Result::ok) {
        let text = fs::read_to_string(file.path()).expect("a dashboard");
        let dashboard: Value = serde_json::from_str(&text).expect("JSON");
        let of = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let mut note = |at: &Value, expression: &Value| {
            let place = format!("{}: {at}", dashboard["title"]);
            found.extend(expression.as_str().map(|expression| (place, filled(expression))));
        };
        for panel in of(&dashboard["panels"]) {
            of(&panel["targets"]).iter().for_each(|target| note(&panel["title"], &target["expr"]));
        }
        for annotation in of(&dashboard["annotations"]["list"]) {
            note(&annotation["name"], &annotation["expr"]);
        }
    }
    found
}

fn filled(expression: &str) -> String {
    [
        ("$__rate_interval", "10s"),
        ("$job", ".+"),
        ("$instance", ".+"),
        ("$cluster", ".*"),
        ("$namespace", ".*"),
    ]
    .iter()
    .fold(expression.to_owned(), |expression, (name, value)| expression.replace(name, value))
}
