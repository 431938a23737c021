"""Security: who may call, and how do they know whom they call?"""
