//! Random worlds and faults from a seed.

use machine::{Rate, Seed, Span, Stream, Time};
use rand::RngExt;

use crate::disk::Damage;
use crate::download::{Fault, World};
use crate::server::{Content, Health, Server};

/// When the faults of a random world end: from then on all servers work, or only one does and the others never will
/// again; a download must come to its end.
pub const PEACE: Span = Span::from_secs(4);

/// By when it must: the slowest world needs half a minute on the rates drawn here.
pub const END: Span = Span::from_secs(120);

/// A random world, and what is true of it.
#[derive(Debug)]
pub struct Drawn {
    /// Ready to run.
    pub world: World,
    /// Whether only one server lives on after [`PEACE`].
    pub is_lonely: bool,
    /// Whether nothing in it spoils bytes, differs from the others or meddles with files, so that it must end well.
    pub is_honest: bool,
    /// Whether moreover every source serves ranges and the client is never killed, so that waste is bounded.
    pub is_thrifty: bool,
    /// Bytes of the file.
    pub length: u64,
}

/// Draws a world: one to five servers with faults of every kind, and a client that dies up to three times.
pub fn draw(seed: u64) -> Drawn {
    let mut chance = Seed::new(seed).derive("schedule").stream();
    let length = chance.random_range(0..1_500_000usize);
    let piece_size = 1 << chance.random_range(13..18);
    let mut contents = vec![Content::random(seed, length, piece_size)];
    let hashed = chance.random_bool(0.7);
    let other = chance.random_bool(0.2);
    if other {
        let length = if chance.random_bool(0.5) { length } else { chance.random_range(0..1_500_000) };
        contents.push(Content::random(seed.wrapping_add(1), length, piece_size));
    }
    if !hashed {
        contents = contents.into_iter().map(Content::without_hashes).collect();
    }
    let digest = contents[0].digest();
    let told = !other && chance.random_bool(if hashed { 0.2 } else { 0.5 });
    let mut world = World::new(seed, contents);
    if told {
        world.expect(digest);
    }
    let count = chance.random_range(1..6usize);
    let (mut corrupt, mut streams) = (false, false);
    let mut sound = Vec::new();
    for index in 0..count {
        let mut server = Server::new(0, rate(&mut chance), Span::from_millis(chance.random_range(1..120)));
        if hashed {
            server.hashless = chance.random_bool(0.2);
            server.hashes_at = match chance.random_range(0..20) {
                0..14 => Time::ZERO,
                14..19 => Time::ZERO + Span::from_millis(chance.random_range(0..PEACE.as_millis())),
                _ => Time::MAX,
            };
        }
        // Where versions differ, hashes of one say nothing of another.
        server.hashless &= !other;
        if index > 0 && (hashed || told) && chance.random_bool(0.12) {
            server.corrupt_every = chance.random_range(1..40);
            corrupt = true;
        }
        if chance.random_bool(0.08) {
            server.ranges = false;
            streams = true;
        }
        if other && index > 0 && chance.random_bool(0.4) {
            server.content = 1;
        }
        sound.extend((server.corrupt_every == 0).then_some(index));
        world.add_server(server);
    }
    if chance.random_bool(0.6) {
        world.add_check(Span::from_millis(chance.random_range(1..60)), Span::from_millis(chance.random_range(50..900)));
    }
    for _ in 0..chance.random_range(0..12) {
        server_fault(&mut world, &mut chance, count, other);
    }
    let deaths = chance.random_range(0..6u32).saturating_sub(2);
    let mut meddled = false;
    for _ in 0..deaths {
        meddled |= client_death(&mut world, &mut chance);
    }
    // Of two versions, the one that lives on might be the one that the client did not choose.
    let is_lonely = !other && count > 1 && chance.random_bool(0.5);
    let survivor = is_lonely.then(|| sound[chance.random_range(0..sound.len())]);
    for index in 0..count {
        peace(&mut world, &mut chance, index, survivor);
    }
    world.plan(Time::ZERO + PEACE, Fault::ReviveClient(Damage::None));
    let is_honest = !corrupt && !other && !meddled;
    let is_thrifty = is_honest && !streams && deaths == 0;
    Drawn { world, is_lonely, is_honest, is_thrifty, length: length as u64 }
}

/// What becomes of a server at the end of all faults: it lives, at a usual rate, or it is not the one that does.
fn peace(world: &mut World, chance: &mut Stream, index: usize, survivor: Option<usize>) {
    let at = Time::ZERO + PEACE;
    if survivor.is_none_or(|survivor| survivor == index) {
        world.plan(at, Fault::Health(index, Health::Up));
        return world.plan(at, Fault::Rate(index, rate(chance)));
    }
    match chance.random_range(0..6) {
        0 => world.plan(at, Fault::Health(index, Health::Killed)),
        1 => world.plan(at, Fault::Health(index, Health::Crashed)),
        2 => world.plan(at, Fault::Health(index, Health::Stalled)),
        3 => world.plan(at, Fault::Health(index, Health::Busy)),
        4 => world.plan(at, Fault::Health(index, Health::Mute)),
        _ => {
            world.plan(at, Fault::Health(index, Health::Up));
            world.plan(at, Fault::Rate(index, trickle(chance)));
        }
    }
}

fn rate(chance: &mut Stream) -> Rate {
    Rate::from_bits_per_sec(1_000_000 * (1 << chance.random_range(0..7)))
}

/// A rate at which the file would take minutes or hours.
fn trickle(chance: &mut Stream) -> Rate {
    Rate::from_bits_per_sec(chance.random_range(2_000..60_000))
}

fn instant(chance: &mut Stream) -> Time {
    let latest = if chance.random_bool(0.5) { 600 } else { PEACE.as_millis() };
    Time::ZERO + Span::from_micros(chance.random_range(0..latest * 1000))
}

fn server_fault(world: &mut World, chance: &mut Stream, count: usize, other: bool) {
    let (server, at) = (chance.random_range(0..count), instant(chance));
    let back = at + Span::from_millis(chance.random_range(1..1500));
    let sickness = match chance.random_range(0..11) {
        0..3 => Health::Killed,
        3..5 => Health::Crashed,
        5 => Health::Stalled,
        6 => Health::Busy,
        7 => return world.plan(at, Fault::Rate(server, rate(chance))),
        8 => Health::Mute,
        9 => {
            world.plan(at, Fault::Rate(server, trickle(chance)));
            if chance.random_bool(0.5) {
                world.plan(back, Fault::Rate(server, rate(chance)));
            }
            return;
        }
        _ if other => return world.plan(at, Fault::Content(server, chance.random_range(0..2))),
        _ => return world.plan(at, Fault::Rumour { server, alive: chance.random_bool(0.5) }),
    };
    world.plan(at, Fault::Health(server, sickness));
    if chance.random_bool(0.7) {
        world.plan(back, Fault::Health(server, Health::Up));
    }
}

/// Kills the client and revives it; whether somebody meddled with its files meanwhile.
fn client_death(world: &mut World, chance: &mut Stream) -> bool {
    let at = instant(chance);
    world.plan(at, if chance.random_bool(0.6) { Fault::KillClient } else { Fault::CutPower });
    let damage = match chance.random_range(0..10) {
        0 => Damage::JournalBit,
        1 => Damage::JournalCut,
        2 => Damage::JournalGone,
        3 => Damage::JournalForeign,
        4 => Damage::DataCut,
        _ => Damage::None,
    };
    world.plan(at + Span::from_millis(chance.random_range(0..500)), Fault::ReviveClient(damage));
    damage != Damage::None
}
