use super::over_seeds::{OfFamily, over_seeds};
use super::*;
use crate::Family;
use crate::dataset::tests::small_study;
use moescope_base::{Column, ColumnRole};
use std::sync::atomic::AtomicBool;

/// Two layers of two experts; the share of expert 1 of layer 1 is missing.
fn shares(values: [f64; 4], null: f64) -> Table {
    let columns = vec![
        Column::integer_key("layer", "", "block", vec![0, 0, 1, 1]),
        Column::integer_key("expert", "", "expert", vec![0, 1, 0, 1]),
        Column::estimate("share", "of slots", "load", values.to_vec()),
        Column::null("share", "of slots", "even", vec![null; 4]),
        Column::text("word", "a label", vec!["a".into(); 4]),
    ];
    Table::new("load", "Load", "By hand.", columns).unwrap()
}

#[test]
fn over_seeds_by_hand() {
    let one = [shares([0.2, 0.4, 0.5, f64::NAN], 0.25), shares([0.4, 0.6, 0.7, 0.9], 0.25)];
    let other = [shares([1.0, 1.0, 1.0, 1.0], 0.5)];
    let of = |family: &str, tables: &'static [Table]| OfFamily {
        family: family.into(),
        tables: tables.iter().collect(),
    };
    let families = [of("a", Box::leak(Box::new(one))), of("b", Box::leak(Box::new(other)))];
    let table = over_seeds("over", &families, false).unwrap().unwrap();
    // Experts of two trainings are not the same ones: means over them, in each layer of each family.
    assert!(table.column("expert").is_none() && table.method().contains("mean over expert"));
    let label = |name: &str, row: usize| table.column(name).unwrap().data.label(row);
    let number = |name: &str, row: usize| table.column(name).unwrap().data.number(row).unwrap();
    let rows: Vec<(String, String)> =
        (0..table.rows()).map(|row| (label("family", row), label("layer", row))).collect();
    let wanted = [("a", "0"), ("a", "1"), ("b", "0"), ("b", "1")].map(|(f, l)| (f.to_owned(), l.to_owned()));
    assert_eq!(rows, wanted);
    // Seeds of `a`: 0.3 and 0.5 in layer 0; 0.5, of the expert that is known, and 0.8 in layer 1.
    for (row, mean, spread) in [(0, 0.4, 0.1), (1, 0.65, 0.15)] {
        assert!((number("share", row) - mean).abs() < 1e-12);
        // With two seeds the t-interval is the mean ± 12.706 times half the difference.
        assert!((number("share_high", row) - mean - 12.7062 * spread).abs() < 1e-3);
    }
    assert_eq!((number("share_n", 0), number("share_n", 2)), (2.0, 1.0));
    assert!(number("share_low", 2).is_nan(), "one seed has no interval");
    let null = table.companion(ColumnRole::Null, "share").unwrap();
    assert_eq!((null.data.number(0), null.data.number(3)), (Some(0.25), Some(0.5)));
    assert!(over_seeds("over", &[], false).unwrap().is_none());
}

#[test]
fn a_curve_keeps_its_points_and_comparisons_have_no_interval() {
    let curve = |losses: [f64; 3]| {
        let columns = vec![
            Column::key("way", "how", vec!["a".into(); 3]),
            Column::estimate("share", "", "of experts", vec![0.0, 0.5, 1.0]),
            Column::estimate("loss", "nats", "rise", losses.to_vec()),
            Column::null("loss", "nats", "none", vec![0.0; 3]),
        ];
        Table::new("curve", "Curve", "By hand.", columns).unwrap()
    };
    let (one, two) = (curve([0.0, 1.0, 2.0]), curve([0.0, 3.0, 4.0]));
    let families = [OfFamily { family: "a".into(), tables: vec![&one, &two] }];
    let table = over_seeds("over", &families, false).unwrap().unwrap();
    assert_eq!(table.rows(), 3, "points of the curve are not averaged");
    let number =
        |table: &Table, name: &str, row: usize| table.column(name).unwrap().data.number(row).unwrap();
    assert_eq!((number(&table, "loss", 1), number(&table, "loss", 2)), (2.0, 3.0));
    assert_eq!(table.column("share").unwrap().data.label(1), "0.5");
    let pairs = over_seeds("over", &families, true).unwrap().unwrap();
    assert!(pairs.column("loss_low").is_none());
    // Two seeds are compared with each other, twice.
    assert_eq!((number(&pairs, "loss", 1), number(&pairs, "loss_n", 1)), (2.0, 1.0));
    // Rows that nothing tells apart have no mean that would mean anything.
    let same = Table::new(
        "t",
        "T",
        "",
        vec![Column::key("way", "", vec!["a".into(); 2]), Column::estimate("x", "", "", vec![1.0, 1.0])],
    );
    let same = same.unwrap();
    assert!(
        over_seeds("over", &[OfFamily { family: "a".into(), tables: vec![&same] }], false).unwrap().is_none()
    );
}

#[test]
fn experts_in_words_are_averaged_and_what_they_stand_beside_is_not() {
    let whose = [
        "block 0, expert 3",
        "block 0, expert 11",
        "block 0, whole layer",
        "expert 1:3",
        "blocks.1.experts.2.hook_out",
    ];
    let columns = vec![
        Column::key("whose", "expert or layer", whose.map(str::to_owned).to_vec()),
        Column::estimate("x", "", "x", vec![1.0, 3.0, 7.0, 8.0, 9.0]),
    ];
    let table = Table::new("t", "T", "", columns).unwrap();
    let over =
        over_seeds("over", &[OfFamily { family: "a".into(), tables: vec![&table] }], false).unwrap().unwrap();
    let row = |at: usize| {
        let column = |name: &str| &over.column(name).unwrap().data;
        (column("whose").label(at), column("x").number(at).unwrap())
    };
    let wanted = [
        ("block 0, expert *", 2.0),
        ("block 0, whole layer", 7.0),
        ("expert 1:*", 8.0),
        ("blocks.1.experts.*.hook_out", 9.0),
    ];
    assert_eq!((0..over.rows()).map(row).collect::<Vec<_>>(), wanted.map(|(name, x)| (name.to_owned(), x)));
}

#[test]
fn tables_are_kept_with_what_they_lack() {
    let found =
        Found::Tables { says: "so".into(), tables: vec![shares([0.1, 0.2, 0.3, f64::NAN], f64::INFINITY)] };
    let text = serde_json::to_string(&found).unwrap();
    let read: Found = serde_json::from_str(&text).unwrap();
    let share = |found: &Found, row| found.tables()[0].column("share").unwrap().data.number(row).unwrap();
    assert_eq!((share(&read, 0), share(&read, 2)), (0.1, 0.3));
    assert!(share(&read, 3).is_nan());
    assert_eq!(read.tables()[0].companion(ColumnRole::Null, "share").unwrap().data.len(), 4);
}

#[test]
fn instruments_are_asked_of_what_allows_them_and_compare_with_the_next_seed() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = small_study(&scratch.path().join("text"), "word");
    (config.training.steps, config.training.warmup, config.training.decay) = (3, 1, 1);
    config.instruments.case = vec!["routing".into(), "model-agreement".into()];
    config.check().unwrap();
    let stop = AtomicBool::new(false);
    let dataset = Dataset::prepare(&config, &stop).unwrap();
    let folder = StudyFolder::open(&scratch.path().join("study"), &config, false).unwrap();
    let routed = Family::Moe { granularity: config.model.primary_granularity };
    let dense = Family::Dense { times: 1 };
    let runs: Vec<Run> =
        [routed, dense].iter().flat_map(|family| [1, 2].map(|seed| Run::language(*family, seed))).collect();
    for run in &runs {
        let plan = config.train_plan(run, dataset.facts().vocabulary, config.data.positions);
        Model::initialise(plan.description, Seed(run.seed)).unwrap().save(&folder.run(run)).unwrap();
    }
    let asking = Asking { config: &config, folder: &folder, dataset: &dataset };
    let analysis = |name: &str| Analysis {
        instrument: name.into(),
        runs: runs.iter().map(|run| (*run, asking.found(name, run).unwrap())).collect(),
    };
    let (load, agreement) = (analysis("routing"), analysis("model-agreement"));
    assert!(matches!(&load.runs[&runs[2]], Found::Nothing { reason } if reason.contains("dense")));
    // As text, in which a number that is missing is itself.
    let again = asking.found("routing", &runs[0]).unwrap();
    assert!(format!("{again:?}") == format!("{:?}", load.runs[&runs[0]]), "asked again, it says the same");
    let compared = agreement.runs[&runs[0]].tables();
    let names_other =
        |table: &Table| table.columns().iter().any(|column| column.data.label(0).ends_with(".s2"));
    assert!(compared.iter().any(names_other), "{:?}", agreement.runs[&runs[0]].in_words());
    // Its chapter has each table over seeds, and what is said of each model.
    let chapter = load.chapter().unwrap();
    assert_eq!(chapter.tables[0].rows(), runs.len());
    assert!(chapter.tables.len() > 1 && !chapter.figures.is_empty() && chapter.id == "case-routing");
    for figure in &chapter.figures {
        assert!(chapter.tables.iter().any(|table| table.name() == figure.table));
        assert!(!figure.title.contains("NaN"), "{}", figure.title);
    }
    let families: Vec<String> =
        (0..chapter.tables[1].rows()).map(|row| chapter.tables[1].columns()[0].data.label(row)).collect();
    assert!(families.iter().all(|family| *family == routed.to_string()), "{families:?}");
}

#[test]
fn a_study_may_be_asked_another_instrument_later_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = StudyConfig::parse(StudyConfig::preset_text("smoke").unwrap(), "smoke").unwrap();
    drop(StudyFolder::open(scratch.path(), &config, false).unwrap());
    config.instruments.case = vec!["similarity".into()];
    drop(StudyFolder::open(scratch.path(), &config, true).unwrap());
    let written = std::fs::read_to_string(scratch.path().join("study.toml")).unwrap();
    assert!(written.contains("similarity"), "{written}");
    config.seeds += 1;
    assert!(StudyFolder::open(scratch.path(), &config, true).is_err());
}

#[test]
fn a_case_that_cannot_be_asked_is_refused_before_anything_is_grown() {
    let mut config = StudyConfig::parse(StudyConfig::preset_text("smoke").unwrap(), "smoke").unwrap();
    let mut refused = |case: &[&str]| {
        config.instruments.case = case.iter().map(|name| (*name).to_owned()).collect();
        config.check().map_err(|error| error.to_string())
    };
    assert!(refused(&["similarity", "dictionary"]).is_ok());
    let unknown = refused(&["similarty"]).unwrap_err();
    assert!(
        unknown.contains("did you mean `similarity`") && unknown.contains("instruments.case"),
        "{unknown}"
    );
    assert!(refused(&["routing", "routing"]).unwrap_err().contains("once"));
    let whole = StudyConfig::whole_case();
    assert!(refused(&whole.iter().map(String::as_str).collect::<Vec<_>>()).is_ok() && whole.len() > 38);
    assert!(refused(&["saturation"]).unwrap_err().contains("checkpoints"));
}
