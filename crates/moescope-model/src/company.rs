//! How far a token's result depends on what else is in the batch: not at all.
//!
//! An expert's rows are multiplied together, so the place of a row among others must not move its bits. Attention and norms
//! see one sequence, or one token, at a time.

use moescope_base::{HookPoint, Request, Seed, Site, Subject, Tokens};

use crate::description::{Description, FeedForward, Routed, Router};
use crate::model::Model;
use crate::subject::ModelSubject;
use crate::testing;

/// Tokens of a sequence: enough that an expert has whole tiles of rows in company, and few alone.
const POSITIONS: usize = 40;

/// Widths that are no multiples of a vector, and experts with a few, one and no token.
fn descriptions() -> [(&'static str, Description); 3] {
    let routed = |experts, per_token| {
        let router = Router::learned(true);
        let routed = Routed { experts, expert_width: 19, per_token, router, shared: None };
        Description {
            d_model: 36,
            feed_forward: vec![FeedForward::Routed(routed); 2],
            ..testing::dense_description()
        }
    };
    [
        ("dense", Description { d_model: 36, ..testing::dense_description() }),
        ("coarse", routed(3, 1)),
        ("granular", routed(24, 8)),
    ]
}

/// Logits of the first sequence of a batch.
fn logits(subject: &mut ModelSubject, ids: Vec<u32>) -> Vec<u32> {
    let tokens = Tokens::new(ids.clone(), ids.len() / POSITIONS, POSITIONS).unwrap();
    let point = [HookPoint::global(Site::Logits)];
    let request = Request { record: &point, ..Request::of(&tokens) };
    let found = subject.run(&request).unwrap();
    found.values[&point[0]].real().unwrap()[..POSITIONS * 32].iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_any_company() {
    let ids = |seed: usize| (0..POSITIONS).map(move |i| ((i * 7 + i * i * seed + seed) % 32) as u32);
    for (name, description) in descriptions() {
        let mut subject = ModelSubject::new(Model::initialise(description, Seed(5)).unwrap());
        let alone = logits(&mut subject, ids(1).collect());
        for company in [1, 2, 7, 19] {
            let batch = (1..=company + 1).flat_map(ids).collect();
            assert_eq!(alone, logits(&mut subject, batch), "{name} with {company} others");
        }
    }
}
