//! The digest of a closure says what is in it, and nothing of how it was told.

use super::*;

fn contents(of: u8, references: &[u8]) -> PathContents {
    PathContents {
        path: path(&format!("path-{of}")),
        hash: Digest::of(&[&[of]]),
        size: u64::from(of) * 8,
        references: references.iter().map(|of| path(&format!("path-{of}"))).collect(),
        signatures: Vec::new(),
        address: String::new(),
    }
}

/// A closure of so many paths, with references by luck.
fn closure() -> impl Strategy<Value = Vec<PathContents>> {
    (1..12_u8).prop_flat_map(|count| {
        let references = prop::collection::btree_set(0..count, 0..4_usize);
        prop::collection::vec(references, usize::from(count)).prop_map(|all| {
            let of = |(of, references): (u8, BTreeSet<u8>)| {
                contents(of, &references.into_iter().collect::<Vec<_>>())
            };
            (0..).zip(all).map(of).collect()
        })
    })
}

fn digest(paths: &[PathContents]) -> Digest {
    Contents::new(paths.to_vec()).unwrap().digest()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn another_path_hash_size_or_reference_is_another_closure(
        paths in closure(), at in 0..12_usize, other in 0..12_usize, what in 0..5_u8,
    ) {
        let (at, other) = (at % paths.len(), other % paths.len());
        let mut changed = paths.clone();
        let referred = paths[other].path.clone();
        match what {
            0 => changed[at].hash = Digest::of(&[b"altered"]),
            1 => changed[at].size += 1,
            2 if !changed[at].references.remove(&referred) => {
                changed[at].references.insert(referred);
            }
            2 => {}
            3 => {
                // Under another name, to whoever refers to it.
                let was = std::mem::replace(&mut changed[at].path, path("renamed"));
                for one in &mut changed {
                    if one.references.remove(&was) {
                        one.references.insert(path("renamed"));
                    }
                }
            }
            _ => changed.push(contents(99, &[])),
        }
        prop_assert_ne!(digest(&changed), digest(&paths));
    }

    #[test]
    fn order_signatures_and_addresses_are_not_part_of_it(
        (paths, shuffled) in closure().prop_flat_map(|paths| (Just(paths.clone()), Just(paths).prop_shuffle())),
        signature in "\\PC{0,20}",
    ) {
        let told = shuffled.into_iter().map(|one| PathContents {
            signatures: vec![signature.clone()],
            address: signature.clone(),
            ..one
        });
        let told = Contents::new(told.collect()).unwrap();
        prop_assert_eq!(told.digest(), digest(&paths));
        let text = serde_json::to_string(&told).unwrap();
        prop_assert_eq!(serde_json::from_str::<Contents>(&text).unwrap(), told);
    }
}

#[test]
fn what_is_no_closure_is_refused_in_words() {
    let said = |paths| Contents::new(paths).unwrap_err().to_string();
    assert!(said(vec![contents(1, &[]), contents(1, &[])]).contains("path-1 is in the closure twice"));
    assert!(said(vec![contents(1, &[2])]).contains("path-2, which is not in the closure"));
    let twice = serde_json::to_string(&[contents(1, &[]), contents(1, &[])]).unwrap();
    assert!(serde_json::from_str::<Contents>(&twice).is_err(), "reading it is making it");
}
