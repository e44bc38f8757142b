//! A name server of one's own: it says another thing each time it is asked, and that nobody may keep it.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use simple_dns::{CLASS, Packet, QTYPE, ResourceRecord, TYPE, rdata::RData};
use tokio::{net::UdpSocket, task::JoinHandle};

/// The only one at which Squid asks.
const PORT: u16 = 53;

pub(crate) struct NameServer {
    pub(crate) address: Ipv4Addr,
    /// For an IPv4 address.
    questions: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl NameServer {
    /// Whatever name it is asked for has these addresses in turn; the last one stays.
    pub(crate) async fn start(answers: &[&str]) -> NameServer {
        let answers: VecDeque<Ipv4Addr> = answers
            .iter()
            .map(|answer| answer.parse().expect("an address"))
            .collect();
        // Nobody else has one of these: each test has another.
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let last = u8::try_from(LAST.fetch_add(1, Ordering::SeqCst)).expect("few tests");
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 53 + last, high, low);
        let socket = UdpSocket::bind((address, PORT)).await.expect(
            "Squid asks at port 53 only, so this test listens there: it runs as root, or once root has said \
             `sysctl net.ipv4.ip_unprivileged_port_start=53`",
        );
        let questions = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&questions);
        let task = tokio::spawn(answer(socket, answers, asked));
        NameServer {
            address,
            questions,
            task,
        }
    }

    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(socket: UdpSocket, mut answers: VecDeque<Ipv4Addr>, questions: Arc<AtomicUsize>) {
    let mut bytes = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await.expect("a question");
        let question = Packet::parse(&bytes[..length]).expect("a question");
        let mut reply = Packet::new_reply(question.id());
        for asked in &question.questions {
            reply.questions.push(asked.clone());
            if asked.qtype != QTYPE::TYPE(TYPE::A) {
                continue;
            }
            questions.fetch_add(1, Ordering::SeqCst);
            let address = match answers.len() {
                1 => answers.front().copied(),
                _ => answers.pop_front(),
            };
            if let Some(address) = address {
                let told = RData::A(address.into());
                let record = ResourceRecord::new(asked.qname.clone(), CLASS::IN, 0, told);
                reply.answers.push(record);
            }
        }
        let reply = reply.build_bytes_vec().expect("an answer");
        socket.send_to(&reply, from).await.expect("sent");
    }
}
