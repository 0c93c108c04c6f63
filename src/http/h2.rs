//! stub
use super::*;
pub struct H2<T>(std::marker::PhantomData<T>);
impl<T> H2<T> {
    pub fn new(_b: BodyBudget, _n: Millis) -> Self {
        Self(std::marker::PhantomData)
    }
    pub fn is_idle(&self) -> bool {
        true
    }
}
impl<T, S: Service<Ticket = T>> Protocol<S> for H2<T> {
    fn feed(&mut self, _: Millis, _: &[u8], _: &mut Vec<u8>, _: &mut S) -> Flow {
        Flow::Close
    }
    fn complete(&mut self, _: Millis, _: u32, _: Reply, _: &mut Vec<u8>, _: &mut S) -> Flow {
        Flow::Close
    }
    fn is_waiting(&self, _: u32) -> bool {
        false
    }
    fn deadline(&self) -> Millis {
        NEVER
    }
    fn expire(&mut self, _: Millis, _: &mut Vec<u8>) -> Flow {
        Flow::Close
    }
    fn shutdown(&mut self, _: Millis, _: &mut Vec<u8>) -> Flow {
        Flow::Close
    }
}
