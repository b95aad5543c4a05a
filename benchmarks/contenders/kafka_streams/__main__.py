from benchmarks.contenders.kafka_streams import main

main()
