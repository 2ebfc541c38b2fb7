//! A report with every kind of figure, with invented numbers; its last section holds data that tries to break it.

mod hostile;
mod verdicts;

use moescope_base::{Column, Figure, FigureKind, QuestionId, Table};
use moescope_report::{Report, Section};

/// The whole demo report.
pub(crate) fn report() -> Report {
    let mut sections = vec![wide(), granularity(), paths(), applications()];
    sections.push(hostile::section());
    Report {
        title: "What a small Mixture-of-Experts does".into(),
        subtitle: "Invented numbers that exercise the page; not a result".into(),
        lead: vec![
            "Six architectures with the same active compute were grown from five seeds each on 8.4 million \
             tokens, and asked the five questions."
                .into(),
            "Two runs of one architecture differ by 0.012 nats of validation loss (standard deviation over seeds); \
             every model has learned: the worst lies 2.1 nats below the unigram baseline."
                .into(),
        ],
        answers: Some(verdicts::answers()),
        sections,
        reproduce: vec![
            ("command".into(), "moescope study small --out out --seeds 5".into()),
            ("code".into(), "moescope 0.1.0, commit 0123456".into()),
            ("corpus".into(), "blake3 1f0c…9a (8 domains, 8.4 M tokens)".into()),
            ("seeds".into(), "11, 12, 13, 14, 15".into()),
            ("device".into(), "cpu, f32, 2 threads".into()),
        ],
        notes: vec![
            "Models of this size need not behave as large ones do.".into(),
            "One corpus in one language.".into(),
        ],
    }
}

fn strings(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|e| (*e).to_owned()).collect()
}

pub(crate) fn figure(id: &str, title: &str, caption: &str, table: &str, kind: FigureKind) -> Figure {
    let text = str::to_owned;
    Figure { id: text(id), title: text(title), caption: text(caption), table: text(table), kind }
}

fn wide() -> Section {
    let arms =
        ["dense", "very wide dense", "top-k activation dense", "hash router", "frozen random router", "MoE"];
    let loss = vec![3.412, 3.301, 3.334, 3.356, 3.349, 3.287];
    let spread = [0.014, 0.012, 0.019, 0.011, 0.013, 0.010];
    let ends = |sign: f64| loss.iter().zip(spread).map(|(l, s)| l + sign * s).collect();
    let [low, high] = Column::interval("loss", "nats", "95 % t interval over seeds", ends(-1.0), ends(1.0));
    let columns = vec![
        Column::key("architecture", "what the feed-forward layer is", strings(&arms)),
        Column::estimate("loss", "nats", "validation loss, mean over seeds", loss.clone()),
        low,
        high,
        Column::observations("loss", "seeds", vec![5; 6]),
        Column::null("loss", "nats", "loss with permuted experts", loss.iter().map(|l| l + 0.05).collect()),
        Column::p_value(
            "loss",
            "paired t test against dense",
            vec![f64::NAN, 0.0004, 0.012, 0.031, 0.022, 1e-6],
        ),
    ];
    let method = "Held-out loss of the last checkpoint; mean over five seeds with a t interval.";
    let table = Table::new("loss_by_arm", "Validation loss by architecture", method, columns)
        .expect("the columns fit together");
    Section {
        id: "wide".into(),
        heading: "Q2 · Wide layers or experts".into(),
        question: Some(QuestionId::Q2),
        prose: vec![
            "The very wide layer closes most of the gap to the routed model, but not all of it.".into(),
        ],
        figures: vec![figure(
            "loss",
            "The MoE has the lowest loss, 0.014 nats below the very wide dense layer",
            "Each mark is a mean over five seeds; whiskers are 95 % intervals.",
            "loss_by_arm",
            FigureKind::Forest {
                label: "architecture".into(),
                estimate: "loss".into(),
                reference: Some(3.412),
            },
        )],
        tables: vec![table],
        method: vec!["Same data in the same order, same active compute.".into()],
        limits: vec!["Loss is not a benefit by itself.".into()],
    }
}

fn granularity() -> Section {
    let mut rows: Vec<(i64, &str, f64)> = Vec::new();
    for (arm, offset) in [("learned router", 0.0), ("hash router", 0.12), ("frozen random router", 0.08)] {
        for (i, granularity) in [1, 2, 4, 8, 16].into_iter().enumerate() {
            rows.push((granularity, arm, 0.62 - 0.07 * i as f64 + 0.009 * (i * i) as f64 + offset));
        }
    }
    let value: Vec<f64> = rows.iter().map(|r| r.2).collect();
    let shifted = |by: f64| value.iter().map(|v| v + by).collect();
    let [low, high] = Column::interval("similarity", "CKA", "95 %", shifted(-0.03), shifted(0.035));
    let columns = vec![
        Column::integer_key(
            "granularity",
            "experts per dense layer",
            "how fine",
            rows.iter().map(|r| r.0).collect(),
        ),
        Column::key("router", "how tokens are routed", rows.iter().map(|r| r.1.to_owned()).collect()),
        Column::estimate("similarity", "CKA", "to the dense model", value.clone()),
        low,
        high,
        Column::null("similarity", "CKA", "between seeds with shuffled tokens", vec![0.21; rows.len()]),
    ];
    let table = Table::new("cka", "Similarity to the dense model", "Debiased linear CKA.", columns)
        .expect("the columns fit together");
    let kind = FigureKind::Lines {
        x: "granularity".into(),
        y: "similarity".into(),
        series: Some("router".into()),
        log2_x: true,
    };
    let title = "Finer experts move representations away from the dense model until granularity 8";
    Section {
        id: "granularity".into(),
        heading: "Q3 · Granularity and representations".into(),
        question: Some(QuestionId::Q3),
        figures: vec![figure("cka", title, "Bands are 95 % intervals over five seeds.", "cka", kind)],
        tables: vec![table],
        ..Section::default()
    }
}

fn paths() -> Section {
    let (mut layer, mut expert, mut load) = (Vec::new(), Vec::new(), Vec::new());
    for l in 0..6 {
        for e in 0..16 {
            layer.push(l);
            expert.push(e);
            load.push(1.0 + 0.9 * f64::sin((l * 7 + e * e) as f64) * (l as f64 + 1.0) / 6.0);
        }
    }
    load[37] = f64::NAN;
    let columns = vec![
        Column::integer_key("layer", "", "depth", layer),
        Column::integer_key("expert", "", "index", expert),
        Column::estimate("load", "× even share", "slots sent to the expert", load),
    ];
    let table = Table::new("load", "Load of each expert", "Counts over 200 000 held-out tokens.", columns)
        .expect("the columns fit together");
    let kind = FigureKind::Heatmap {
        x: "expert".into(),
        y: "layer".into(),
        value: "load".into(),
        center: Some(1.0),
    };
    let title = "Late layers load their experts unevenly, early layers do not";
    Section {
        id: "paths".into(),
        heading: "Q4 · Paths".into(),
        question: Some(QuestionId::Q4),
        figures: vec![
            figure("load", title, "An even load is neutral. An empty cell was not measured.", "load", kind),
            figure(
                "plane",
                "Experts with many paths are those that matter when removed",
                "Each point is one expert; crosses are 95 % intervals.",
                "knockout",
                FigureKind::Scatter {
                    x: "predicted".into(),
                    y: "measured".into(),
                    series: Some("layer".into()),
                    diagonal: true,
                },
            ),
        ],
        tables: vec![table, knockout()],
        ..Section::default()
    }
}

fn knockout() -> Table {
    let wave = |i: usize, speed: f64| (f64::sin(i as f64 * speed) + 1.0) / 2.0;
    let predicted: Vec<f64> = (0..48).map(|i| 0.02 + 0.1 * wave(i, 1.7)).collect();
    let measured: Vec<f64> =
        predicted.iter().enumerate().map(|(i, p)| p * 0.9 + 0.03 * wave(i, 5.1) - 0.01).collect();
    let shifted = |by: f64| measured.iter().map(|v| v + by).collect();
    let [low, high] = Column::interval("measured", "nats", "95 %", shifted(-0.008), shifted(0.008));
    let layers = (0..48).map(|i| format!("layer {}", i / 16)).collect();
    let columns = vec![
        Column::key("layer", "depth", layers),
        Column::integer_key("expert", "", "index", (0..48).map(|i| i % 16).collect()),
        Column::estimate("predicted", "nats", "attribution", predicted),
        Column::estimate("measured", "nats", "rise of the loss without the expert", measured),
        low,
        high,
    ];
    Table::new("knockout", "Loss without each expert", "Expert set to zero, gates kept.", columns)
        .expect("the columns fit together")
}

fn applications() -> Section {
    let domains = ["code", "mathematics", "news", "poetry", "conversation"];
    let (mut domain, mut arm, mut gain) = (Vec::new(), Vec::new(), Vec::new());
    for (d, name) in domains.iter().enumerate() {
        for (a, which) in ["G = 1", "G = 4", "G = 16"].iter().enumerate() {
            domain.push((*name).to_owned());
            arm.push((*which).to_owned());
            gain.push(0.06 - 0.025 * d as f64 + 0.018 * a as f64);
        }
    }
    let shifted = |by: f64| gain.iter().map(|v| v + by).collect();
    let [low, high] = Column::interval("gain", "nats", "95 %", shifted(-0.011), shifted(0.011));
    let columns = vec![
        Column::key("domain", "kind of text", domain),
        Column::key("granularity", "arm", arm),
        Column::estimate("gain", "nats", "loss of the dense model minus loss of the arm", gain.clone()),
        low,
        high,
    ];
    let table = Table::new("gain", "Gain over dense by domain", "Paired by seed.", columns)
        .expect("the columns fit together");
    let kind = FigureKind::Bars { x: "domain".into(), y: "gain".into(), series: Some("granularity".into()) };
    let title = "Fine experts gain most on code and lose on conversation";
    Section {
        id: "applications".into(),
        heading: "Q5 · Applications".into(),
        question: Some(QuestionId::Q5),
        figures: vec![figure(
            "gain",
            title,
            "Bars begin at no gain; whiskers are 95 % intervals.",
            "gain",
            kind,
        )],
        tables: vec![table],
        ..Section::default()
    }
}
