"""The test double of the host functions: one module for each module of the contract's bindings.

Functions, types and parameters are those that a component has. Limits and the order of errors are those of the host.
"""
