"""Operations that the runtime skips because an input is empty, although their output is not."""
