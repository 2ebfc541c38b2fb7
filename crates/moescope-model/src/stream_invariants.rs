//! What passes over the same tokens have in common is computed once, and no bit depends on it.

use moescope_base::{
    Edit, HookPoint, Observation, Projection, Request, RouteEdit, Site, Subject, ValueEdit, WeightMatrix,
    WeightPlace,
};

use crate::description::{Description, FeedForward, Router};
use crate::model::Model;
use crate::subject::ModelSubject;
use crate::testing::{self, all_points, bits, subject, tokens, value_edit, zoo};

/// A subject that has met these tokens often enough to know their streams.
fn acquainted(description: &Description) -> ModelSubject {
    let mut subject = subject(description);
    (0..2).for_each(|_| drop(subject.run(&Request::of(&tokens())).unwrap()));
    subject
}

fn assert_same(found: &Observation, wanted: &Observation, what: &str) {
    assert_eq!(bits(&found.loss), bits(&wanted.loss), "{what}: losses");
    for (found, wanted) in [(&found.values, &wanted.values), (&found.gradients, &wanted.gradients)] {
        assert_eq!(found.len(), wanted.len(), "{what}");
        for (point, wanted) in wanted {
            let found = &found[point];
            assert_eq!((found.rows(), found.integer()), (wanted.rows(), wanted.integer()), "{what}: {point}");
            assert_eq!(found.real().map(bits), wanted.real().map(bits), "{what}: {point}");
        }
    }
}

/// An edit at each point, with the values behind it recorded, the gradients behind it asked for, or nothing of both.
#[test]
fn a_pass_that_begins_at_its_edit_has_the_same_bits() {
    for (name, description) in zoo() {
        let (tokens, all) = (tokens(), all_points(&description));
        let mut known = acquainted(&description);
        for (place, point) in all.iter().enumerate() {
            if matches!(point.site(), Site::RouterIndices | Site::AttnRouterIndices) || is_scale(point.site())
            {
                continue;
            }
            let edits = [value_edit(*point, ValueEdit::Scale { factor: 0.5 })];
            let behind = [*point, all[(place + 7).min(all.len() - 1)], HookPoint::global(Site::Logits)];
            let gradients: Vec<HookPoint> =
                behind.into_iter().filter(|at| at.site().has_gradient()).collect();
            for (record, gradients) in [(&[][..], &[][..]), (&behind, &[]), (&[], &gradients)] {
                let request = Request { record, gradients, edits: &edits, ..Request::of(&tokens) };
                let fresh = subject(&description).run(&request);
                // Some points cannot be edited in some models; both say so.
                match (known.run(&request), fresh) {
                    (Ok(found), Ok(wanted)) => assert_same(&found, &wanted, &format!("{name}, {point}")),
                    (found, wanted) => assert_eq!(found.is_err(), wanted.is_err(), "{name}, {point}"),
                }
            }
        }
    }
}

fn is_scale(site: Site) -> bool {
    matches!(site, Site::AttnScale | Site::MlpScale | Site::FinalScale)
}

/// Four layers, so that there is something to begin behind.
fn deep() -> Description {
    let routed = testing::routed_description(Router::learned(true)).feed_forward[1].clone();
    let feed_forward = vec![FeedForward::Dense { width: 24 }, routed.clone(), routed.clone(), routed];
    Description { feed_forward, ..testing::dense_description() }
}

/// Edits of one pass leave nothing behind for the next one, in whichever order passes come.
#[test]
fn edited_passes_do_not_touch_each_other() {
    let (description, tokens) = (deep(), tokens());
    let all = all_points(&description);
    let ban = |layer: u32| Edit::Route { layer, change: RouteEdit::Ban { experts: vec![layer, 4] } };
    let swap = Edit::Route { layer: 1, change: RouteEdit::Swap { with: 3 } };
    let middle = value_edit(HookPoint::block(Site::ResidMid, 2), ValueEdit::Scale { factor: -1.0 });
    let early = value_edit(HookPoint::global(Site::Embed), ValueEdit::Scale { factor: 0.9 });
    let lists: Vec<Vec<Edit>> = vec![
        vec![ban(3)],
        vec![middle.clone()],
        vec![ban(1), middle],
        vec![early],
        vec![],
        vec![swap],
        vec![ban(2), ban(3)],
        vec![ban(1)],
        vec![],
    ];
    let mut known = subject(&description);
    for round in 0..3 {
        for (place, edits) in lists.iter().enumerate() {
            for record in [&[][..], &all] {
                let request = Request { record, edits, ..Request::of(&tokens) };
                let wanted = subject(&description).run(&request).unwrap();
                assert_same(&known.run(&request).unwrap(), &wanted, &format!("round {round}, list {place}"));
            }
        }
    }
}

/// Other weights, put in the place of those with which the streams were made, count from the next pass on; so do the old ones, put back.
#[test]
fn replaced_weights_are_met() {
    let (description, tokens) = (deep(), tokens());
    let place = WeightPlace::Expert { layer: 1, expert: 2, projection: Projection::Down };
    let all = all_points(&description);
    let request = Request { record: &all, ..Request::of(&tokens) };
    let last = Request {
        edits: &[Edit::Route { layer: 3, change: RouteEdit::Ban { experts: vec![0] } }],
        ..Request::of(&tokens)
    };
    let (mut known, mut fresh) = (acquainted(&description), subject(&description));
    let before = known.run(&last).unwrap();
    let old = known.parameters().unwrap().weights(place).unwrap().unwrap();
    let with = WeightMatrix::new(old.columns(), old.data().iter().map(|x| -3.0 * x).collect()).unwrap();
    for subject in [&mut known, &mut fresh] {
        subject.parameters().unwrap().replace(place, &with).unwrap();
    }
    let changed = fresh.run(&last).unwrap();
    assert_ne!(bits(&before.loss), bits(&changed.loss), "the weights matter");
    assert_same(&known.run(&last).unwrap(), &changed, "replaced");
    assert_same(&known.run(&request).unwrap(), &fresh.run(&request).unwrap(), "replaced, all values");
    known.parameters().unwrap().restore().unwrap();
    assert_same(&known.run(&last).unwrap(), &before, "put back");
}

/// Weights that are read from files for each block: blocks that are left out are not read.
#[test]
fn models_whose_weights_stay_in_files_begin_late_as_well() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/gpt_oss");
    let whole = || ModelSubject::new(Model::open(&folder).unwrap());
    let mut streamed = ModelSubject::new(Model::open_streamed(&folder, 0).unwrap());
    let tokens = tokens();
    let points = whole().shape().hook_points();
    for point in
        points.iter().filter(|point| matches!(point.site(), Site::ResidPre | Site::ResidMid | Site::MlpOut))
    {
        let edits = [value_edit(*point, ValueEdit::Scale { factor: 0.5 })];
        let request =
            Request { record: &[HookPoint::global(Site::Logits)], edits: &edits, ..Request::of(&tokens) };
        let wanted = whole().run(&request).unwrap();
        for time in 0..3 {
            assert_same(&streamed.run(&request).unwrap(), &wanted, &format!("{point}, pass {time}"));
        }
    }
}

/// Passes that end at each point in turn leave nothing that is no stream: what a block gives out that was left behind its router, say.
#[test]
fn passes_that_end_early_leave_whole_streams() {
    for (name, description) in zoo() {
        let (tokens, all) = (tokens(), all_points(&description));
        let wanted = subject(&description).run(&Request { record: &all, ..Request::of(&tokens) }).unwrap();
        let last = [HookPoint::global(Site::Logits)];
        for point in &all {
            let mut known = subject(&description);
            for _ in 0..2 {
                known.run(&Request::recording(&tokens, std::slice::from_ref(point))).unwrap();
            }
            let found = known.run(&Request { record: &last, ..Request::of(&tokens) }).unwrap();
            assert_eq!(bits(&found.loss), bits(&wanted.loss), "{name}, after {point}");
            let [found, wanted] =
                [&found, &wanted].map(|seen| seen.values[&last[0]].real().unwrap().to_vec());
            assert_eq!(bits(&found), bits(&wanted), "{name}, after {point}");
        }
    }
}

/// A batch that is known is no reason to take an edit that the model cannot make.
#[test]
fn edits_of_layers_that_do_not_exist_are_refused_as_before() {
    let (description, tokens) = (deep(), tokens());
    let mut known = acquainted(&description);
    for layer in [4, u32::MAX] {
        let ban = [Edit::Route { layer, change: RouteEdit::Ban { experts: vec![0] } }];
        assert!(known.run(&Request { edits: &ban, ..Request::of(&tokens) }).is_err());
        let point = HookPoint::block(Site::ResidPre, layer as usize);
        let scale = [value_edit(point, ValueEdit::Scale { factor: 2.0 })];
        assert!(known.run(&Request { edits: &scale, ..Request::of(&tokens) }).is_err());
    }
}
