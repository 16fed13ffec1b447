//! Which of many intervals hold a key.
//!
//! Owns: a tree of intervals of keys, each with those who are interested in it.
//!
//! - A look-up costs the logarithm of the number of intervals for each one that it finds, however they overlap.
//! - A node's `reach` is the greatest end of all intervals beneath it and its own.
//! - It is a treap: ordered by interval, a heap by a keyed hash of it, so that no choice of intervals unbalances it.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    hash::BuildHasher,
};

use bytes::Bytes;

/// Where an interval ends. Open ends are the greatest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum End {
    Before(Bytes),
    Open,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Open => true,
        }
    }
}

/// From a key up to an end.
pub(super) type Interval = (Bytes, End);

#[derive(Debug)]
pub(super) struct Intervals<T> {
    root: Tree<T>,
    hasher: RandomState,
}

type Tree<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    interval: Interval,
    who: BTreeSet<T>,
    priority: u64,
    reach: End,
    left: Tree<T>,
    right: Tree<T>,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self { root: None, hasher: RandomState::new() }
    }
}

impl<T: Ord + Copy> Intervals<T> {
    /// Adds one who is interested; whether the interval had nobody before.
    pub(super) fn insert(&mut self, interval: Interval, who: T) -> bool {
        if let Some(node) = find(&mut self.root, &interval) {
            node.who.insert(who);
            return false;
        }
        let priority = self.hasher.hash_one(&interval);
        let (less, more) = split(self.root.take(), &interval);
        let reach = interval.1.clone();
        let node = Node { interval, who: BTreeSet::from([who]), priority, reach, left: None, right: None };
        self.root = merge(merge(less, Some(Box::new(node))), more);
        true
    }

    /// Removes one who was interested; whether the interval has nobody any more.
    pub(super) fn remove(&mut self, interval: &Interval, who: T) -> bool {
        let Some(node) = find(&mut self.root, interval) else { return false };
        if !node.who.remove(&who) || !node.who.is_empty() {
            return false;
        }
        self.root = without(self.root.take(), interval);
        true
    }

    /// Visits all who are interested in an interval that holds `key`.
    pub(super) fn stab(&self, key: &[u8], visit: &mut impl FnMut(T)) {
        stab(self.root.as_deref(), key, visit);
    }

    /// All intervals, in order.
    pub(super) fn all(&self) -> Vec<Interval> {
        let mut all = Vec::new();
        walk(self.root.as_deref(), &mut |interval| all.push(interval.clone()));
        all
    }
}

impl<T> Node<T> {
    /// Sets the reach after a child changed.
    fn settle(mut self: Box<Self>) -> Box<Self> {
        let children = [&self.left, &self.right].into_iter().flatten().map(|child| &child.reach);
        self.reach = children.chain([&self.interval.1]).max().cloned().unwrap_or(End::Open);
        self
    }
}

fn find<'a, T>(tree: &'a mut Tree<T>, interval: &Interval) -> Option<&'a mut Node<T>> {
    let mut tree = tree;
    loop {
        let node = tree.as_mut()?;
        match interval.cmp(&node.interval) {
            std::cmp::Ordering::Less => tree = &mut node.left,
            std::cmp::Ordering::Greater => tree = &mut node.right,
            std::cmp::Ordering::Equal => return Some(node),
        }
    }
}

/// Cuts a tree into the intervals below one and the rest.
fn split<T>(tree: Tree<T>, at: &Interval) -> (Tree<T>, Tree<T>) {
    let Some(mut node) = tree else { return (None, None) };
    if node.interval < *at {
        let (less, more) = split(node.right.take(), at);
        node.right = less;
        (Some(node.settle()), more)
    } else {
        let (less, more) = split(node.left.take(), at);
        node.left = more;
        (less, Some(node.settle()))
    }
}

/// Joins two trees; all intervals of `less` are below those of `more`.
fn merge<T>(less: Tree<T>, more: Tree<T>) -> Tree<T> {
    match (less, more) {
        (None, tree) | (tree, None) => tree,
        (Some(mut less), Some(more)) if less.priority >= more.priority => {
            less.right = merge(less.right.take(), Some(more));
            Some(less.settle())
        }
        (less, Some(mut more)) => {
            more.left = merge(less, more.left.take());
            Some(more.settle())
        }
    }
}

fn without<T>(tree: Tree<T>, interval: &Interval) -> Tree<T> {
    let mut node = tree?;
    match interval.cmp(&node.interval) {
        std::cmp::Ordering::Less => node.left = without(node.left.take(), interval),
        std::cmp::Ordering::Greater => node.right = without(node.right.take(), interval),
        std::cmp::Ordering::Equal => return merge(node.left.take(), node.right.take()),
    }
    Some(node.settle())
}

fn stab<T: Copy>(node: Option<&Node<T>>, key: &[u8], visit: &mut impl FnMut(T)) {
    let Some(node) = node.filter(|node| node.reach.is_after(key)) else { return };
    stab(node.left.as_deref(), key, visit);
    let (start, end) = &node.interval;
    if &start[..] <= key {
        if end.is_after(key) {
            node.who.iter().copied().for_each(&mut *visit);
        }
        stab(node.right.as_deref(), key, visit);
    }
}

fn walk<T>(node: Option<&Node<T>>, visit: &mut impl FnMut(&Interval)) {
    if let Some(node) = node {
        walk(node.left.as_deref(), visit);
        visit(&node.interval);
        walk(node.right.as_deref(), visit);
    }
}
