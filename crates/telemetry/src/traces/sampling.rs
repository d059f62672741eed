//! Which traces are kept: `OTEL_TRACES_SAMPLER`, decided where a trace begins.

use super::TraceContext;

/// Decides, as the sampler of that name does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    /// Follow whoever began the trace.
    follows_parent: bool,
    /// The part that is kept of traces that begin here, from 0 to 1.
    ratio: f64,
}

impl Sampler {
    /// By the values of `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(name: Option<&str>, argument: Option<&str>) -> Result<Self, String> {
        let ratio = || match argument.map(str::parse::<f64>) {
            None => Ok(1.0),
            Some(Ok(ratio)) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            Some(_) => Err("OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1".to_owned()),
        };
        let name = name.unwrap_or("parentbased_always_on");
        let (follows_parent, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, name),
        };
        let ratio = match kind {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio()?,
            _ => return Err("OTEL_TRACES_SAMPLER is none of always_on, always_off, traceidratio and the same with parentbased_".to_owned()),
        };
        Ok(Self { follows_parent, ratio })
    }

    /// Whether a trace is kept. All nodes decide alike for one trace.
    pub(super) fn keeps(self, trace_id: u128, parent: Option<&TraceContext>) -> bool {
        if let Some(parent) = parent.filter(|_| self.follows_parent) {
            return parent.is_sampled;
        }
        // 63 bits, as other implementations take them.
        let number = (trace_id as u64 >> 1) as f64;
        self.ratio >= 1.0 || number < self.ratio * (1_u64 << 63) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_and_a_parent_is_followed() {
        let parent = |is_sampled| TraceContext { trace_id: 1, span_id: 1, is_sampled };
        let of = |name, argument| Sampler::new(name, argument).unwrap();
        let default = of(None, None);
        assert!(default.keeps(1, None) && default.keeps(1, Some(&parent(true))));
        assert!(!default.keeps(1, Some(&parent(false))));
        assert!(of(Some("always_on"), None).keeps(1, Some(&parent(false))));
        assert!(!of(Some("always_off"), None).keeps(1, Some(&parent(true))));
        let tenth = of(Some("parentbased_traceidratio"), Some("0.1"));
        let kept = (0..10_000_u64)
            .filter(|at| tenth.keeps(u128::from(at.wrapping_mul(0x9E37_79B9_7F4A_7C15)), None))
            .count();
        assert!((900..1100).contains(&kept), "{kept}");
        assert!(Sampler::new(Some("jaeger_remote"), None).is_err());
        assert!(Sampler::new(Some("traceidratio"), Some("2")).is_err());
    }
}
