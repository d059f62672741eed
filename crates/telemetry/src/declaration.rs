//! What a metric says of itself, and how it is made from that.

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};

use crate::{
    exposition::{HistogramFamily, Registry},
    histogram::{Histogram, HistogramVec},
};

/// The kinds of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process ends.
    Counter,
    /// The state of the moment.
    Gauge,
    /// How many values lay below each of some bounds, fixed ones and those that follow from the values.
    Histogram,
}

impl Kind {
    /// What Prometheus calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Which series a metric with labels has. It is bounded whatever clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// These: the values of the labels, in their order. They begin at 0, since an alert cannot see the increase of a series that
    /// appears with its first event.
    Known(&'static [&'static [&'static str]]),
    /// Those that there are, and why they are not many.
    Bounded(&'static str),
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    /// Its name, as Prometheus sees it.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// In what it is counted: seconds, bytes, or what there is a number of.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The values that its labels have.
    pub series: Series,
    /// The upper bounds of a histogram's classic buckets.
    pub buckets: &'static [f64],
    /// What it shows.
    pub help: &'static str,
}

/// Metrics that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// The heading in the reference page.
    pub title: &'static str,
    /// In the order of the page.
    pub metrics: &'static [Declaration],
}

/// A metric that is made from its declaration.
pub(crate) trait Family: Sized {
    const KIND: Kind;

    /// Makes it, with the series that are known, and has it scraped.
    fn register(declaration: &Declaration, registry: &mut Registry) -> Self;
}

fn opts(declaration: &Declaration) -> Opts {
    Opts::new(declaration.name, declaration.help)
}

fn rows(declaration: &Declaration) -> &'static [&'static [&'static str]] {
    match declaration.series {
        Series::Known(rows) => rows,
        Series::Bounded(_) => &[],
    }
}

macro_rules! family {
    ($metric:ty, $kind:ident) => {
        impl Family for $metric {
            const KIND: Kind = Kind::$kind;

            fn register(declaration: &Declaration, registry: &mut Registry) -> Self {
                // Names are distinct and well formed; the tests would not pass otherwise.
                let family = Self::with_opts(opts(declaration)).expect("a valid metric");
                registry.add(family.clone()).expect("a name of its own");
                family
            }
        }
    };
    ($metric:ty, $kind:ident, labels) => {
        impl Family for $metric {
            const KIND: Kind = Kind::$kind;

            fn register(declaration: &Declaration, registry: &mut Registry) -> Self {
                let family = Self::new(opts(declaration), declaration.labels).expect("a valid metric");
                for row in rows(declaration) {
                    family.with_label_values(row);
                }
                registry.add(family.clone()).expect("a name of its own");
                family
            }
        }
    };
}

family!(IntCounter, Counter);
family!(Counter, Counter);
family!(IntGauge, Gauge);
family!(Gauge, Gauge);
family!(IntCounterVec, Counter, labels);
family!(IntGaugeVec, Gauge, labels);
family!(CounterVec, Counter, labels);
family!(GaugeVec, Gauge, labels);

impl Family for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn register(declaration: &Declaration, registry: &mut Registry) -> Self {
        let histogram = Self::new(declaration.buckets);
        add_histograms(declaration, registry, vec![(&[], histogram.clone())]);
        histogram
    }
}

impl Family for HistogramVec {
    const KIND: Kind = Kind::Histogram;

    fn register(declaration: &Declaration, registry: &mut Registry) -> Self {
        let family = Self::new(rows(declaration), declaration.buckets);
        let histograms = family.rows().map(|(row, histogram)| (row, histogram.clone())).collect();
        add_histograms(declaration, registry, histograms);
        family
    }
}

fn add_histograms(
    declaration: &Declaration,
    registry: &mut Registry,
    rows: Vec<(&'static [&'static str], Histogram)>,
) {
    let Declaration { name, help, labels, .. } = *declaration;
    registry.add_histograms(HistogramFamily { name, help, labels, rows });
}

/// Makes the struct of all metrics, their registration and their declarations, so that each is written once:
/// `field: Type = "name", unit "unit", [labels...] of series, buckets BOUNDS, "help";`
macro_rules! families {
    ($($title:literal { $(
        $field:ident: $metric:ident = $name:literal, unit $unit:literal,
        $([$($label:literal),+] of $series:expr,)? $(buckets $buckets:expr,)? $help:literal;
    )+ })+) => {
        /// All metrics, each under a name of its own.
        #[derive(Debug, Clone)]
        pub struct Families {
            $($(
                #[doc = concat!("`signalbox_", $name, "`: ", $help)]
                pub $field: $metric,
            )+)+
        }

        impl Families {
            /// Makes them, all zero, and has them scraped.
            pub(crate) fn register(registry: &mut Registry) -> Self {
                Self { $($(
                    $field: {
                        const DECLARATION: Declaration = families!(@declaration $metric, $name, $unit,
                            ($([$($label),+] of $series)?), ($($buckets)?), $help);
                        <$metric as Family>::register(&DECLARATION, registry)
                    },
                )+)+ }
            }
        }

        /// The declarations of all metrics.
        pub const SECTIONS: &[Section] = &[$(
            Section {
                title: $title,
                metrics: &[$(
                    families!(@declaration $metric, $name, $unit,
                        ($([$($label),+] of $series)?), ($($buckets)?), $help),
                )+],
            },
        )+];
    };
    (@declaration $metric:ident, $name:literal, $unit:literal, ($($labels:tt)*), ($($buckets:expr)?), $help:literal) => {
        Declaration {
            name: concat!("signalbox_", $name),
            kind: <$metric as Family>::KIND,
            unit: $unit,
            labels: families!(@labels $($labels)*),
            series: families!(@series $($labels)*),
            buckets: families!(@buckets $($buckets)?),
            help: $help,
        }
    };
    (@labels) => { &[] };
    (@labels [$($label:literal),+] of $series:expr) => { &[$($label),+] };
    (@series) => { Series::Known(&[]) };
    (@series [$($label:literal),+] of $series:expr) => { $series };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets };
}

pub(crate) use families;
