"""The release: gate, statistics, report, lock file and bundle.

    release = Release(...)                                   what was built and measured (edgeq.release.release)
    judgement = gate(release, Budgets(accuracy_drop=0.01))   PASS, FAIL or INCONCLUSIVE (edgeq.release.gate)
    write_bundle(folder, release, judgement, files, inputs)  the folder, whole or not at all (edgeq.release.bundle)
    release, judgement = read_report(folder)                 back again (edgeq.release.report_json)

`Release` takes the measurements of each device (edgeq.measurement), the files with their hashes, the evaluation data's
hash and slices, and the audit's lines; layers, op times, diagnosis, recovery and pictures are optional, and the report
shows each where it is there. `docs/gate.md` and `docs/report.md` tell users the rest.
"""
