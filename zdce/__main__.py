from zdce.cli import main

main(prog_name="zdce")
