use super::*;
use moescope_analysis::AnalysisError;
use moescope_analysis::instrument::{Finding, named};
use std::collections::BTreeSet;

fn options(seeds: usize) -> ValidityOptions {
    ValidityOptions { seeds, silent_seeds: seeds, seed: Seed(1), permutations: 99, replicates: 100 }
}

#[test]
fn every_instrument_promises_to_find_something_and_to_be_silent_somewhere() {
    for instrument in CASE {
        let about = instrument.about();
        let (finds, silent): (Vec<&Promise>, Vec<&Promise>) =
            about.promises.iter().partition(|promise| promise.finds);
        assert!(!finds.is_empty() && !silent.is_empty(), "{} has no row in the bench", about.name);
    }
}

#[test]
fn every_planted_property_concerns_an_instrument() {
    let used: BTreeSet<Property> = CASE
        .iter()
        .flat_map(|instrument| instrument.about().promises)
        .map(|promise| promise.planted)
        .collect();
    assert!(used.into_iter().eq(Property::ALL));
}

fn run(case: &[&'static dyn Instrument], threads: usize) -> Validity {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| validity(case, options(1), &|_, _| {})).unwrap()
}

/// All instruments on one world of each property is the test of the command; here some of each kind are asked, twice.
#[test]
fn few_seeds_keep_what_is_promised_to_be_found_whatever_the_threads() {
    let some: Vec<&'static dyn Instrument> = CASE.iter().copied().step_by(4).collect();
    let found = run(&some, 2);
    let missed: Vec<String> =
        found.judgements.iter().filter(|j| j.promise.finds && !j.kept()).map(|j| format!("{j:?}")).collect();
    assert!(missed.is_empty(), "{missed:#?}");
    let promises: usize = some.iter().map(|instrument| instrument.about().promises.len()).sum();
    assert_eq!(found.table().unwrap().rows(), promises);
    assert!(found.unlike.is_empty(), "{:#?}", found.unlike);
    let alone = run(&some, 1);
    let rates = |found: &Validity| found.judgements.iter().map(|j| j.rate).collect::<Vec<_>>();
    assert_eq!((rates(&found), &found.unseen), (rates(&alone), &alone.unseen));
}

/// `calibration`, which says that its tables are other ones.
struct Mistaken;

impl Instrument for Mistaken {
    fn about(&self) -> About {
        let of = |name: &str| named(name).unwrap().about();
        About { gives: of("logit-lens").gives, ..of("calibration") }
    }

    fn run(&self, material: &mut Material<'_>) -> Result<Finding, AnalysisError> {
        named("calibration").unwrap().run(material)
    }
}

#[test]
fn tables_that_are_not_what_their_instrument_says_are_named_and_so_are_those_that_none_gave() {
    let right = run(&[named("calibration").unwrap()], 1);
    assert!(right.unlike.is_empty() && right.unseen.is_empty());
    let wrong = run(&[&Mistaken], 1);
    assert!(
        wrong.unlike.contains("calibration: calibration: the table is not said to be given"),
        "{wrong:?}"
    );
    let gives: Vec<&str> = Mistaken.about().gives.iter().map(|gives| gives.table).collect();
    assert_eq!(wrong.unseen, gives);
}

/// Neuron `t` of expert 3 of block 1 alone knows what follows token `t`, for the first quarter of the tokens.
#[test]
fn neurons_that_know_a_token_are_told_by_their_number_and_their_token() {
    let world = worlds::world(Property::FactExpert, Seed(3)).unwrap();
    let mut subject = ModelSubject::new(world.model);
    let mut material = Material::new(&mut subject, world.batches, Seed(1)).unwrap();
    let finding = named("neuron-profile").unwrap().run(&mut material).unwrap();
    let table = finding.tables.iter().find(|table| table.name() == "neuron_profile").unwrap();
    let label = |column: &str, row: usize| table.column(column).unwrap().data.label(row);
    let own = (0..table.rows()).filter(|row| label("layer", *row) == "1" && label("expert", *row) == "3");
    let mut told = 0;
    for row in own.filter(|row| label("neuron", *row) != "all") {
        let (neuron, tokens) = (label("neuron", row), label("tokens", row));
        if neuron.parse::<usize>().unwrap() < 12 {
            assert!(tokens.starts_with(&format!("#{neuron} ")), "neuron {neuron} is told by {tokens}");
            told += 1;
        }
    }
    assert!(told >= 8, "{told} of twelve are among those that write most");
}

/// The bench never has two others.
#[test]
fn similarity_to_two_other_models_gives_the_tables_that_are_said_of_it() {
    let world = worlds::world(Property::PermutedTwin, Seed(5)).unwrap();
    let twin = world.other.unwrap();
    let mut subject = ModelSubject::new(world.model);
    let mut material = Material::new(&mut subject, world.batches, Seed(1)).unwrap();
    (material.permutations, material.replicates) = (19, 50);
    let other = |name: &str| {
        let twin = twin.clone();
        let open = move || Ok(Box::new(ModelSubject::new(twin.clone())) as Box<dyn Subject + Send>);
        Other::named(name, Box::new(open))
    };
    material.others = vec![other("first"), other("second")];
    let similarity = named("model-similarity").unwrap();
    let (about, finding) = (similarity.about(), similarity.run(&mut material).unwrap());
    assert_eq!(about.unlike(&finding), Vec::<String>::new());
    assert_eq!(finding.tables.len(), about.gives.len());
}

#[test]
fn a_broken_promise_is_called_by_its_name() {
    let about = CASE[0].about();
    let judged = |finds: bool, hits: usize, by_chance: f64| {
        let promise = Promise { finds, ..about.promises[0] };
        Judgement { about, promise, rate: proportion(hits, 20).unwrap(), by_chance }.verdict()
    };
    assert_eq!((judged(true, 18, f64::NAN), judged(true, 17, f64::NAN)), ("found", "missed"));
    assert_eq!((judged(false, 5, 0.12), judged(false, 7, 0.002)), ("silent", "false alarm"));
}

#[test]
fn silence_may_be_read_in_more_worlds_and_the_first_of_them_say_the_same() {
    let of = |seeds, silent_seeds| {
        let options = ValidityOptions { silent_seeds, ..options(seeds) };
        validity(&[moescope_analysis::instrument::named("calibration").unwrap()], options, &|_, _| {})
            .unwrap()
    };
    let (few, many) = (of(2, 2), of(2, 6));
    for (few, many) in few.judgements.iter().zip(&many.judgements) {
        assert_eq!(many.rate.trials, if many.promise.finds { 2 } else { 6 });
        assert!(many.rate.hits >= few.rate.hits, "more worlds are added to the same");
        assert!(!many.promise.finds || few.rate == many.rate);
    }
}

#[test]
fn no_seeds_are_refused() {
    assert!(validity(CASE, options(0), &|_, _| {}).is_err());
}

/// Every number of the tables of an instrument on a model and text.
fn numbers(name: &str, model: &moescope_model::Model, batches: &[text::Batch]) -> Vec<f64> {
    let mut subject = ModelSubject::new(model.clone());
    let mut material = Material::new(&mut subject, batches.to_vec(), Seed(1)).unwrap();
    (material.permutations, material.replicates) = (19, 50);
    let found = moescope_analysis::instrument::named(name).unwrap().run(&mut material).unwrap();
    let columns = found.tables.iter().flat_map(|table| table.columns().to_vec());
    columns.flat_map(|column| (0..column.data.len()).filter_map(move |row| column.data.number(row))).collect()
}

#[test]
fn what_should_not_see_the_names_of_experts_sees_none_and_what_names_them_does() {
    let world = worlds::world(Property::PermutedTwin, Seed(5)).unwrap();
    let twin = world.other.unwrap();
    let apart = |name: &str| {
        let (own, other) =
            (numbers(name, &world.model, &world.batches), numbers(name, &twin, &world.batches));
        assert_eq!(own.len(), other.len(), "{name}");
        let pairs = own.iter().zip(&other).filter(|(a, b)| a.is_finite() || b.is_finite());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    for name in ["similarity", "logit-lens", "calibration"] {
        assert!(apart(name) < 1e-3, "{name}: {}", apart(name));
    }
    assert!(apart("expert-importance") > 1e-3, "each expert is worth what its namesake is not");
}
