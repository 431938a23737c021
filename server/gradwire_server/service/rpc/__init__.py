"""RPC: how does a call become a request, and its result an answer?"""
