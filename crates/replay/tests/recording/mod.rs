//! Recordings as a relay makes them, of packets that a seed draws, without a relay.

use std::io;

use event::{
    Changed, Event, LinkChange, RecordedLinks, RecordedNetwork, RecordedPair, RecordedPort, RecordedTrace, Recording,
};
use link::{Cause, HalfLink, Loss, Network, PartitionKey, PortId, Profile, To, Trace, WireSize, Within};
use machine::{Rate, Seed, Span, Time};
use rand::RngExt;

/// What captures' times are ahead of the relay's clock.
const EPOCH: u64 = 1_700_000_000_000_000_000;
const NODES: [&str; 3] = ["a", "b", "c"];

/// Two networks of three nodes, and what was recorded of them.
pub(crate) struct World {
    seed: u64,
    networks: Vec<Recorder>,
    changes: Vec<LinkChange>,
    ended: Time,
}

/// A network and the captures of its ports.
struct Recorder {
    name: &'static str,
    network: Network<(u64, Vec<u8>)>,
    ports: Vec<PortId>,
    entered: u64,
    captures: Vec<Vec<u8>>,
    /// Of each capture where a delivery begins, and when it was.
    deliveries: Vec<Vec<(usize, u64)>>,
}

fn half(text: &str) -> HalfLink {
    let ms = Span::from_millis;
    match text {
        "slow" => HalfLink {
            rate: Some(Rate::from_mbit(4)),
            delay: ms(3),
            queue: Some(link::Queue::Packets(3)),
            ..HalfLink::default()
        },
        "rough" => HalfLink {
            delay: ms(2),
            jitter: ms(1),
            loss: "8%".parse().unwrap(),
            duplicate: "10%".parse().unwrap(),
            corrupt: "10%".parse().unwrap(),
            reorder: "10%".parse().unwrap(),
            ..HalfLink::default()
        },
        "traced" => HalfLink { trace: Some(trace()), delay: ms(1), ..HalfLink::default() },
        _ => HalfLink { delay: ms(1), ..HalfLink::default() },
    }
}

fn trace() -> Trace {
    Trace::from_instants("line", &[1, 2, 2, 5, 9, 20]).unwrap()
}

fn links() -> [Profile; 3] {
    [("slow", "rough"), ("rough", "traced"), ("plain", "slow")]
        .map(|(up, down)| Profile { up: half(up), down: half(down) })
}

impl Recorder {
    fn new(name: &'static str, seed: u64) -> Self {
        let mut network = Network::new(name, Seed::new(seed));
        let ports: Vec<PortId> = NODES.iter().zip(links()).map(|(node, link)| network.add_port(node, &link)).collect();
        network.set_pair(ports[0], ports[1], &half("rough"));
        network.keep_losses();
        let mut header = Vec::new();
        block(
            &mut header,
            0x0a0d_0d0a,
            &[&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8], &[0; 4]].concat(),
        );
        block(&mut header, 1, &[&[1, 0, 0, 0, 0, 0, 0, 0][..], &[9, 0, 1, 0, 9, 0, 0, 0], &[0; 4]].concat());
        Recorder { name, network, ports, entered: 0, captures: vec![header; 3], deliveries: vec![Vec::new(); 3] }
    }

    fn send(&mut self, at: Time, from: usize, to: Option<usize>, length: usize) {
        self.poll(at);
        self.entered += 1;
        let id = self.entered;
        let destination = to.map_or([0xff; 6], mac);
        let frame = [&destination[..], &mac(from)[..], &vec![7; length.max(14) - 12]].concat();
        let to = to.map_or(To::Flood, |to| To::Port(self.ports[to]));
        let size = WireSize::packet(frame.len() as u32);
        self.network.send(at, self.ports[from], to, size, (id, frame.clone()));
        let losses: Vec<_> = std::iter::from_fn(|| self.network.poll_loss()).collect();
        let is_own = |loss: &Loss<(u64, Vec<u8>)>| loss.payload.0 == id && loss.within == Within::Up && !loss.is_copy;
        let own: Vec<String> = losses.iter().filter(|loss| is_own(loss)).map(|loss| why(loss.cause, "up")).collect();
        let entered = self.network.now();
        packet(&mut self.captures[from], entered, true, id, &own, &frame);
        losses.into_iter().filter(|loss| !is_own(loss)).for_each(|loss| self.lose(loss));
    }

    fn poll(&mut self, now: Time) {
        while let Some(one) = self.network.poll(now) {
            let (port, (id, frame)) = (one.to.index(), one.payload);
            let comments = comments(None, one.is_copy, one.flips, frame.len());
            self.deliveries[port].push((self.captures[port].len(), one.at.as_nanos()));
            packet(&mut self.captures[port], one.at, false, id, &comments, &frame);
        }
        self.take_losses();
    }

    fn take_losses(&mut self) {
        while let Some(loss) = self.network.poll_loss() {
            self.lose(loss);
        }
    }

    fn lose(&mut self, loss: Loss<(u64, Vec<u8>)>) {
        let (port, within) = match loss.within {
            Within::Up => (loss.from, "up"),
            Within::Pair(to) => (to, "pair"),
            Within::Down(to) => (to, "down"),
        };
        let (id, frame) = loss.payload;
        let comments = comments(Some(why(loss.cause, within)), loss.is_copy, loss.flips, frame.len());
        packet(&mut self.captures[port.index()], loss.at, within == "up", id, &comments, &frame);
    }
}

impl World {
    /// Of so many packets on each network, with changes of their links in between.
    pub(crate) fn new(seed: u64, packets: usize) -> World {
        let mut draws = Seed::new(seed).derive("world").stream();
        let mut world = World::quiet(seed);
        let mut at = Time::from_nanos(5_000_000_000);
        let changes = 9;
        for nth in 0..packets {
            if nth % (packets / changes).max(1) == 0 {
                // Now and then in the nanosecond of a packet.
                at += Span::from_micros(draws.random_range(0..3));
                world.change(at, nth / (packets / changes).max(1));
            }
            for network in 0..2 {
                at += Span::from_micros(draws.random_range(0..900));
                let from = draws.random_range(0..3);
                let to =
                    if draws.random_range(0..10) == 0 { None } else { Some((from + draws.random_range(1..3)) % 3) };
                world.networks[network].send(at, from, to, draws.random_range(14..1514));
            }
            if draws.random_range(0..3) == 0 {
                world.networks.iter_mut().for_each(|network| network.poll(at));
            }
        }
        world.end(at)
    }

    /// Everything in one nanosecond: a link changes between two packets.
    pub(crate) fn all_at_once(seed: u64) -> World {
        let mut world = World::quiet(seed);
        let at = Time::from_nanos(1_000_000_000);
        world.networks[0].send(at, 2, Some(0), 100);
        let slow = links()[0].clone();
        let change =
            Changed::Link { node: "c".to_owned(), network: "left".to_owned(), link: Box::new(slow.clone().into()) };
        world.changed(at, change, move |network, at| {
            if network.name == "left" {
                network.network.set_profile(at, network.ports[2], &slow);
            }
        });
        world.networks[0].send(at, 2, Some(0), 100);
        world.end(at + Span::from_secs(1))
    }

    fn quiet(seed: u64) -> World {
        let networks = ["left", "right"].map(|name| Recorder::new(name, seed)).into();
        World { seed, networks, changes: Vec::new(), ended: Time::ZERO }
    }

    fn end(mut self, at: Time) -> World {
        self.ended = at;
        for network in &mut self.networks {
            network.poll(at);
            for capture in &mut network.captures {
                block(capture, 5, &[0; 16]);
            }
        }
        self
    }

    fn changed(&mut self, at: Time, change: Changed, apply: impl Fn(&mut Recorder, Time)) {
        let entered = self.networks.iter().map(|network| network.entered).collect();
        self.changes.push(LinkChange { relay_ns: at.as_nanos(), entered, change });
        for network in &mut self.networks {
            apply(network, at);
            network.take_losses();
        }
    }

    /// The `nth` of a few changes, some of one network and some of both.
    fn change(&mut self, at: Time, nth: usize) {
        let node = |name: &str| (name.to_owned(), "left".to_owned());
        let on_left = |apply: fn(&mut Recorder, Time)| {
            move |network: &mut Recorder, at: Time| {
                if network.name == "left" {
                    apply(network, at);
                }
            }
        };
        let traced = Profile { up: half("rough"), down: half("traced") };
        let ((a, left), (b, _), (c, _)) = (node("a"), node("b"), node("c"));
        match nth {
            0 => self.changed(at, Changed::TracesBegan, |network, at| network.network.begin_traces(at)),
            1 => {
                let change = Changed::Link { node: a, network: left, link: Box::new(traced.clone().into()) };
                self.changed(at, change, move |network, at| {
                    if network.name == "left" {
                        network.network.set_profile(at, network.ports[0], &traced);
                    }
                });
            }
            2 => {
                let lists = vec![vec![a], vec![b, "elsewhere".to_owned()]];
                self.changed(at, Changed::Partitioned { key: 4, lists }, |network, at| {
                    let lists = [vec![network.ports[0]], vec![network.ports[1]]];
                    network.network.partition(at, PartitionKey(4), &lists);
                });
            }
            3 => {
                let change = Changed::Cut { node: c, network: left };
                self.changed(at, change, on_left(|network, at| network.network.cut(at, network.ports[2])));
            }
            4 => self.changed(at, Changed::Healed { key: 4 }, |network, at| network.network.heal(at, PartitionKey(4))),
            5 => {
                let change = Changed::Restored { node: c, network: left };
                self.changed(at, change, on_left(|network, at| network.network.restore(at, network.ports[2])));
            }
            6 => {
                let change = Changed::Link { node: a, network: left, link: Box::new(links()[0].clone().into()) };
                self.changed(
                    at,
                    change,
                    on_left(|network, at| {
                        network.network.set_profile(at, network.ports[0], &links()[0]);
                    }),
                );
            }
            _ => {}
        }
    }

    /// The log of it.
    pub(crate) fn events(&self) -> Vec<Event> {
        let port = |(index, (node, link)): (usize, (&&str, Profile))| RecordedPort {
            node: (*node).to_owned(),
            interface: "eth0".to_owned(),
            mac: mac(index),
            link: link.into(),
        };
        let ports: Vec<RecordedPort> = NODES.iter().zip(links()).enumerate().map(port).collect();
        let network = |recorder: &Recorder| RecordedNetwork {
            name: recorder.name.to_owned(),
            ports: ports
                .iter()
                .cloned()
                .map(|port| RecordedPort { interface: recorder.name.to_owned(), ..port })
                .collect(),
            pairs: vec![RecordedPair { from: 0, to: 1, link: half("rough").into() }],
        };
        let links = RecordedLinks {
            epoch_ns: EPOCH,
            networks: self.networks.iter().map(network).collect(),
            traces: vec![RecordedTrace { name: "line".to_owned(), instants_ms: trace().instants().to_vec() }],
        };
        let began = format!(
            r#"{{"at_ns":0,"event":"run-began","name":"w","file":"x.yaml","seed":{},"engine":"netns","version":"0","unix_ms":0,"timeout":"1s","nodes":[],"networks":[],"faults":[],"expectations":[],"repeat":"testbed run x.yaml"}}"#,
            self.seed
        );
        let ended = Recording { files: 6, ended_ns: self.ended.as_nanos(), ..Recording::default() };
        let changes = self.changes.iter().cloned().map(Event::LinksChanged);
        let began = event::Record::from_line(&began).unwrap().event;
        [began, Event::RecordingBegan(links)]
            .into_iter()
            .chain(changes)
            .chain([Event::PacketsRecorded(ended)])
            .collect()
    }

    /// Opens captures, as `replay` asks for them.
    pub(crate) fn opener<'a>(&'a self) -> impl FnMut(&RecordedPort) -> io::Result<&'a [u8]> {
        |port| {
            let network = self.networks.iter().find(|network| network.name == port.interface).unwrap();
            Ok(&network.captures[usize::from(port.mac[5])])
        }
    }

    /// That of a node on the first network.
    pub(crate) fn capture_mut(&mut self, port: usize) -> &mut Vec<u8> {
        &mut self.networks[0].captures[port]
    }

    /// Lets a packet of the first network arrive a nanosecond later; where, and when it was.
    pub(crate) fn delay_one_delivery(&mut self) -> (usize, u64) {
        let network = &mut self.networks[0];
        let port = (0..3).max_by_key(|port| network.deliveries[*port].len()).unwrap();
        let (block, at) = network.deliveries[port][network.deliveries[port].len() / 2];
        let low = &mut network.captures[port][block + 16..block + 20];
        let later = u32::from_le_bytes((&*low).try_into().unwrap()) + 1;
        low.copy_from_slice(&later.to_le_bytes());
        (port, at)
    }
}

fn mac(port: usize) -> [u8; 6] {
    [2, 0, 0, 0, 0, port as u8]
}

fn why(cause: Cause, within: &str) -> String {
    format!("dropped: {} ({within})", format!("{cause:?}").to_lowercase())
}

fn comments(dropped: Option<String>, is_copy: bool, flips: link::Flips, length: usize) -> Vec<String> {
    let bits = flips.iter().filter_map(|flip| flip.of((length as u32 - 14) * 8)).map(|bit| bit + 14 * 8);
    let copy = is_copy.then(|| "duplicate".to_owned());
    let flips = bits.map(|bit| format!("corrupted: bit {} of byte {}", bit % 8, bit / 8));
    dropped.into_iter().chain(copy).chain(flips).collect()
}

fn packet(out: &mut Vec<u8>, at: Time, is_outbound: bool, id: u64, comments: &[String], frame: &[u8]) {
    let at = EPOCH + at.as_nanos();
    let words = [0, (at >> 32) as u32, at as u32, frame.len() as u32, frame.len() as u32];
    let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let padded = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    padded(&mut body, frame);
    for comment in comments {
        body.extend([1, 0]);
        body.extend((comment.len() as u16).to_le_bytes());
        padded(&mut body, comment.as_bytes());
    }
    body.extend([2, 0, 4, 0, 1 + u8::from(is_outbound), 0, 0, 0, 5, 0, 8, 0]);
    body.extend(id.to_le_bytes());
    body.extend([0; 4]);
    block(out, 6, &body);
}

fn block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let length = (body.len() as u32 + 12).to_le_bytes();
    out.extend(kind.to_le_bytes());
    out.extend(length);
    out.extend(body);
    out.extend(length);
}
