//! The Merkle tree over a release's manifests. The hashes are those of RFC 9162, section 2.1: leaves and nodes can't be
//! taken for each other, and a tree of `n` leaves has one shape.

use crate::Digest;

/// The hash of a leaf.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Digest {
    Digest::of(&[&[0], bytes])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// Where a tree of so many leaves, at least two, is divided: the largest power of two below.
fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// The root of the tree over leaves.
#[must_use]
pub fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

/// For each leaf the way up to the root: what it is put together with, from below.
#[must_use]
pub fn proofs(leaves: &[Digest]) -> Vec<Vec<Digest>> {
    fn climb(leaves: &[Digest], ways: &mut [Vec<Digest>]) -> Digest {
        match leaves {
            [] => Digest::of(&[]),
            [leaf] => *leaf,
            _ => {
                let at = split(leaves.len());
                let (ways_left, ways_right) = ways.split_at_mut(at);
                let (left, right) = (climb(&leaves[..at], ways_left), climb(&leaves[at..], ways_right));
                ways_left.iter_mut().for_each(|way| way.push(right));
                ways_right.iter_mut().for_each(|way| way.push(left));
                node(&left, &right)
            }
        }
    }
    let mut ways = vec![Vec::new(); leaves.len()];
    climb(leaves, &mut ways);
    ways
}

/// The root that a leaf at an index of a tree of so many leaves leads to, along its way up. `None`: there is no such leaf, or
/// the way is not as long as it would be.
#[must_use]
pub fn climb(leaf: Digest, index: u64, count: u64, way: &[Digest]) -> Option<Digest> {
    if index >= count {
        return None;
    }
    // RFC 9162, 2.1.3.2.
    let (mut at, mut last) = (index, count - 1);
    let mut hash = leaf;
    for other in way {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(other, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, other);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_leaf_leads_to_the_root_and_no_other_does(
            count in 1_usize..70, at in 0_usize..70, other in 0_usize..70, cut in 0_usize..8,
        ) {
            let leaves: Vec<Digest> = (0..count).map(|number| leaf(&number.to_le_bytes())).collect();
            let (at, other) = (at % count, other % count);
            let (root, ways) = (root(&leaves), proofs(&leaves));
            let lead = |leaf: Digest, index: usize, way: &[Digest]| climb(leaf, index as u64, count as u64, way);
            prop_assert_eq!(lead(leaves[at], at, &ways[at]), Some(root));
            if other != at {
                prop_assert_ne!(lead(leaves[other], at, &ways[at]), Some(root), "another leaf in its place");
                prop_assert_ne!(lead(leaves[at], other, &ways[at]), Some(root), "at another place");
            }
            let shorter = &ways[at][..cut.min(ways[at].len())];
            if shorter.len() < ways[at].len() {
                prop_assert_eq!(lead(leaves[at], at, shorter), None, "a way that ends too early");
            }
            let longer = [ways[at].as_slice(), &[root]].concat();
            prop_assert_eq!(lead(leaves[at], at, &longer), None, "a way that goes on");
            prop_assert_eq!(climb(leaves[at], count as u64, count as u64, &ways[at]), None, "no such leaf");
        }
    }

    #[test]
    fn a_node_is_not_taken_for_a_leaf() {
        let leaves = [leaf(b"a"), leaf(b"b")];
        let forged = [leaves[0].as_bytes().as_slice(), leaves[1].as_bytes()].concat();
        assert_ne!(leaf(&forged), root(&leaves));
    }
}
